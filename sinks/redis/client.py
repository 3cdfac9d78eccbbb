"""Clients of Redis: a single server, Redis Cluster, or a primary that Redis Sentinel names.

| URL | connects to |
|---|---|
| ``redis://``, ``rediss://`` (TLS), ``unix://`` | that server, or the whole cluster to which it belongs |
| ``redis+sentinel://``, ``rediss+sentinel://`` | the primary that the Sentinels name |

A Sentinel URL is ``redis+sentinel://USER:PASSWORD@HOST:26379,HOST:26379/NAME/DATABASE``; user, password and database
may be left out, and ``?sentinel_password=`` gives the Sentinels' own password.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.redaction import error_text, revealed

if TYPE_CHECKING:
    from pydantic import SecretStr

    Client = redis.Redis
    """A cluster's client is taken for one: the commands that are used here are the same."""

NO_REDIS = "no Redis is configured"
"""The state of Redis where ``FUNNELWATCH_REDIS_URL`` is empty: neither healthy nor broken, but not used."""

SENTINEL_PORT = 26_379
SENTINEL_FORM = "redis+sentinel://HOST:26379,HOST:26379/NAME, where NAME is the primary's name in the Sentinels"


class UrlError(FunnelwatchError, redis.RedisError):
    """The URL cannot be read; the message has no part of it, since it may hold a password."""


def connect(address: str | SecretStr, *, timeout_s: float = 5.0, connect_timeout_s: float = 2.0) -> Client:
    """A client of the server or cluster that the URL names.

    Raises:
        UrlError: the URL cannot be read.
        redis.RedisError, OSError: no server answers, or one that is not Redis.
    """
    url = revealed(address)
    bounds: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": connect_timeout_s,
        # Retry once, for a connection that the server has closed meanwhile. The default, three retries with pauses,
        # would delay the counting.
        "retry": Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    }
    if urlsplit(url).scheme in ("redis+sentinel", "rediss+sentinel"):
        return _primary(url, bounds)
    try:
        client = redis.Redis.from_url(url, **bounds)
    except ValueError as error:
        raise UrlError(
            "FUNNELWATCH_REDIS_URL cannot be read; right would be redis://HOST:PORT/0 or rediss://, unix://, "
            "redis+sentinel://"
        ) from error
    try:
        if not _is_cluster(client):
            return client
    except redis.TimeoutError as error:
        client.close()
        if urlsplit(url).scheme == "rediss":
            raise redis.TimeoutError(f"{error}; a server that speaks no TLS is redis://, not rediss://") from error
        raise
    except BaseException:
        client.close()
        raise
    client.close()
    return cast("Client", RedisCluster.from_url(url, **bounds))


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server's description of itself; empty and 0 where its user may not run INFO.

    Attributes:
        kind: "Redis" or "Redis Cluster".
        version: its version.
        max_memory: its limit, bytes; 0: none.
        policy: its eviction policy when its memory is full.
    """

    kind: str
    version: str = ""
    max_memory: int = 0
    policy: str = ""


def server_of(client: Client) -> ServerInfo:
    """The description of the server, or of one node of a cluster."""
    is_cluster = isinstance(client, RedisCluster)
    more: dict[str, Any] = {"target_nodes": RedisCluster.RANDOM} if is_cluster else {}
    try:
        found = client.info(**more)
    except redis.exceptions.NoPermissionError:
        return ServerInfo("Redis")
    return ServerInfo(
        "Redis Cluster" if is_cluster else "Redis",
        str(found.get("redis_version", "")),
        int(found.get("maxmemory", 0)),
        str(found.get("maxmemory_policy", "noeviction")),
    )


def _is_cluster(client: Client) -> bool:
    try:
        mode = _mode(client)
    except redis.exceptions.NoPermissionError:
        # A user who may not run INFO can still use a single server; with a cluster the scripts fail and name it.
        return False
    if mode == "sentinel":
        raise UrlError(f"FUNNELWATCH_REDIS_URL names a Redis Sentinel: right would be {SENTINEL_FORM}")
    return mode == "cluster"


def _mode(client: Client) -> str:
    """The mode: "standalone", "cluster" or "sentinel"."""
    info = client.info("server")
    return str(info.get("redis_mode") or info.get("server_mode"))


def _primary(url: str, bounds: dict[str, Any]) -> Client:
    scheme, _, rest = url.partition("://")
    credentials, _, tail = rest.rpartition("@")
    address, _, query = tail.partition("?")
    hosts, *path = address.split("/")
    if not hosts or not path or not path[0]:
        raise UrlError(f"FUNNELWATCH_REDIS_URL: a URL of Redis Sentinel is {SENTINEL_FORM}")
    user, _, password = credentials.partition(":")
    try:
        sentinels = [_host(one) for one in hosts.split(",")]
        database = int(path[1]) if len(path) > 1 and path[1] else 0
    except ValueError as error:
        raise UrlError(f"FUNNELWATCH_REDIS_URL: a URL of Redis Sentinel is {SENTINEL_FORM}") from error
    own = {name: values[-1] for name, values in parse_qs(query).items()}
    tls = {"ssl": True} if scheme == "rediss+sentinel" else {}
    asked = {**bounds, **tls}
    if "sentinel_password" in own:
        asked["password"] = own["sentinel_password"]
    make: Any = Sentinel  # it has no types
    found = make(
        sentinels,
        sentinel_kwargs=asked,
        db=database,
        username=unquote(user) or None,
        password=unquote(password) or None,
        **bounds,
        **tls,
    )
    client: Client = found.master_for(unquote(path[0]))
    client.ping()
    return client


def _host(text: str) -> tuple[str, int]:
    name, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        return text.strip("[]"), SENTINEL_PORT
    return name.strip("[]"), int(port)


NEEDS_LOGIN = "it asks for a password: set one in FUNNELWATCH_REDIS_URL, redis://:PASSWORD@HOST:PORT/0"

SENTENCES = (
    ("NOAUTH", NEEDS_LOGIN),
    ("Authentication required", NEEDS_LOGIN),
    ("with the client already authenticated", NEEDS_LOGIN),
    ("WRONGPASS", "it rejects the password or the user in FUNNELWATCH_REDIS_URL"),
    ("invalid username-password", "it rejects the password or the user in FUNNELWATCH_REDIS_URL"),
    ("without any password configured", "it has no password, and FUNNELWATCH_REDIS_URL gives one"),
    ("NOPERM", "its user may not do what funnelwatch does (see docs/running.md for the commands)"),
    ("No permission", "its user may not do what funnelwatch does (see docs/running.md for the commands)"),
    ("no permissions", "its user may not do what funnelwatch does (see docs/running.md for the commands)"),
    ("READONLY", "it is a read-only replica: FUNNELWATCH_REDIS_URL must name the primary"),
    ("read only replica", "it is a read-only replica: FUNNELWATCH_REDIS_URL must name the primary"),
    ("OOM", "its memory is full: raise maxmemory, or lower FUNNELWATCH_CACHE_HORIZON_S"),
    ("maxmemory", "its memory is full: raise maxmemory, or lower FUNNELWATCH_CACHE_HORIZON_S"),
    ("loading the dataset", "it is still loading its data"),
    ("LOADING", "it is still loading its data"),
    ("DB index is out of range", "it has no database of the number in FUNNELWATCH_REDIS_URL"),
    ("SELECT is not allowed in cluster mode", "Redis Cluster has database 0 only"),
    ("CROSSSLOT", "it is a Redis Cluster, and its user may not run INFO, by which funnelwatch would know"),
    ("MOVED", "it is a Redis Cluster, and its user may not run INFO, by which funnelwatch would know"),
    ("MISCONF", "it rejects writes because it cannot save its data to disk"),
    ("No master found", "the Sentinels know no primary of the name in FUNNELWATCH_REDIS_URL, or do not answer"),
    ("MASTERDOWN", "it is a replica that has lost its primary"),
    ("Protocol Error", "something that is not Redis answers there"),
    ("wrong version number", "it does not speak TLS: redis:// instead of rediss://"),
)
"""Errors of servers and of redis-py, each with a sentence that names the remedy; the first match counts."""


def explain(error: BaseException) -> str:
    """A sentence (without a full stop) about an error of Redis; ends with the error's own words."""
    words = error_text(error)
    if isinstance(error, redis.InvalidResponse):
        return f"something that is not Redis answers there ({words})"
    for sign, sentence in SENTENCES:
        if sign in words:
            return f"{sentence} ({words})"
    return words
