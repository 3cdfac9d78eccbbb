"""Redis of every kind, and Redis that is wrong from the start: counting goes on, and what is wrong is said."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from funnelwatch.cli.commands import cli
from funnelwatch.cli.doctor_services import check_redis
from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.schemas.redaction import revealed
from funnelwatch.sinks.redis.client import UrlError, connect, explain
from funnelwatch.sinks.servers import servers
from funnelwatch.stream.aggregate.cache_rebuild import RETRY_S, TASK
from funnelwatch.web.board.cache import CacheReader
from tests.integration.test_cache import Counting, settle
from tests.redis_servers import PRIMARY, OwnRedis, cluster, running, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.counts import CountStore


@pytest.fixture(autouse=True)
def _outages() -> Iterator[None]:
    """The next test's outage is another one."""
    yield
    servers.done(TASK)


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A port on which something answers everything with the same bytes."""
    with socket.create_server((HOST, 0)) as server:
        server.settimeout(0.2)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = server.accept()
                    with connection:
                        connection.settimeout(5)
                        while connection.recv(4096):
                            connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            thread.join(30)


@contextlib.contextmanager
def rejected() -> Iterator[str]:
    """Nobody is there."""
    yield f"redis://{HOST}:{free_port()}/0"


@contextlib.contextmanager
def not_a_url() -> Iterator[str]:
    """No URL of Redis."""
    yield "http://:secret@redis.example/0"


@contextlib.contextmanager
def without_password() -> Iterator[str]:
    """It asks for a password, and none is set."""
    with running(password="secret") as server:
        yield f"redis://{HOST}:{server.port}/0"


@contextlib.contextmanager
def wrong_password() -> Iterator[str]:
    """Another one is set."""
    with running(password="secret") as server:
        yield f"redis://:other@{HOST}:{server.port}/0"


@contextlib.contextmanager
def other_protocol() -> Iterator[str]:
    """A web server."""
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        yield f"redis://{HOST}:{port}/0"


@contextlib.contextmanager
def loading() -> Iterator[str]:
    """It answers that it is loading."""
    with answering(b"-LOADING Redis is loading the dataset in memory\r\n") as port:
        yield f"redis://{HOST}:{port}/0"


@contextlib.contextmanager
def plain_for_tls() -> Iterator[str]:
    """It speaks no TLS."""
    with running() as server:
        yield f"rediss://{HOST}:{server.port}/0"


@contextlib.contextmanager
def replica() -> Iterator[str]:
    """A replica, which takes no writes."""
    with running() as primary, running("--replicaof", HOST, str(primary.port)) as server:
        yield server.url


@contextlib.contextmanager
def full() -> Iterator[str]:
    """Its memory is full."""
    with running() as server:
        with server.client() as client:
            client.config_set("maxmemory", "1mb")
        yield server.url


@contextlib.contextmanager
def forbidden() -> Iterator[str]:
    """A user who may read only."""
    with running() as server:
        with server.client() as client:
            client.acl_setuser(
                "reader", enabled=True, passwords=["+p"], keys=["*"], categories=["+@read", "+@connection"]
            )
        yield f"redis://reader:p@{HOST}:{server.port}/0"


@contextlib.contextmanager
def no_such_database() -> Iterator[str]:
    """It has sixteen."""
    with running() as server:
        yield f"redis://{HOST}:{server.port}/99"


@contextlib.contextmanager
def sentinel_without_name() -> Iterator[str]:
    """The primary's name is left out."""
    yield f"redis+sentinel://:secret@{HOST}:{free_port()}"


@contextlib.contextmanager
def sentinel_of_another() -> Iterator[str]:
    """The Sentinels know no such primary."""
    with watched() as (_, sentinel):
        yield f"redis+sentinel://{HOST}:{sentinel.port}/other"


@contextlib.contextmanager
def sentinel_as_redis() -> Iterator[str]:
    """A Sentinel's address, as if it were a Redis."""
    with watched() as (_, sentinel):
        yield f"redis://{HOST}:{sentinel.port}/0"


WRONG: list[tuple[Callable[[], AbstractContextManager[str]], str]] = [
    (rejected, "Connection refused"),
    (not_a_url, "cannot be read"),
    (without_password, "asks for a password"),
    (wrong_password, "rejects the password"),
    (other_protocol, "not Redis"),
    (loading, "loading"),
    (plain_for_tls, "TLS"),
    (replica, "replica"),
    (full, "memory is full"),
    (forbidden, "may not do"),
    (no_such_database, "no database"),
    (sentinel_without_name, "redis+sentinel://HOST"),
    (sentinel_of_another, "no primary of the name"),
    (sentinel_as_redis, "Sentinel"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG, ids=[one.__name__ for one, _ in WRONG])
def test_redis_that_is_wrong_from_the_start_is_said_and_holds_nothing_up(
    settings: Settings,
    store: CountStore,
    caplog: pytest.LogCaptureFixture,
    wrong: Callable[[], AbstractContextManager[str]],
    words: str,
) -> None:
    """Events are counted, one line in the log says what is wrong, so does doctor, and no password is in either."""
    with wrong() as url:
        counting = Counting(settings.model_copy(update={"redis_url": url}), store)
        with caplog.at_level(logging.WARNING, "funnelwatch.stream"):
            for _ in range(3):
                counting.feed()
                assert counting.rebuild.step() == RETRY_S
        counting.close()
        (finding,) = check_redis(counting.settings)
        with pytest.raises(Exception, match=r"(?s)."):
            assert CacheReader(counting.settings, _no_database, lambda: 0).read("f", 0, 60_000)
    assert sum(tally.events for tally in counting.in_database().values()) == 9
    assert words in (counting.rebuild.error or "")
    said = [record.getMessage() for record in caplog.records if "Redis" in record.getMessage()]
    assert len(said) == 1, said
    assert words in said[0]
    assert (finding.level, words in finding.message) == ("FAILED", True), finding
    assert "FUNNELWATCH_REDIS_URL" in finding.advice
    assert not any(secret in text for text in (*said, finding.message) for secret in ("secret", ":other@", ":p@"))


def _no_database() -> AbstractContextManager[object]:
    raise ConnectionError("the database is asked instead")


def test_redis_cluster_has_the_counts(settings: Settings, store: CountStore) -> None:
    """Cache, board and doctor use all of a cluster that one address is of; a node's end is survived as an outage."""
    with cluster() as nodes:
        counting = Counting(settings.model_copy(update={"redis_url": nodes[1].url}), store)
        counting.feed(10)
        settle(counting)
        assert counting.in_redis()
        assert counting.cache.repair([("sign_up", 0)], lambda *_: [], 0) == 1
        counting.feed()
        settle(counting)
        (finding,) = check_redis(counting.settings)
        assert (finding.level, "Redis Cluster" in finding.message) == ("ok", True)
        counting.cache.clear()
        settle(counting)
        counting.close()


def test_a_primary_that_sentinels_name_has_the_counts(settings: Settings, store: CountStore) -> None:
    """With password and database number; the second Sentinel of the URL is asked where the first is away."""
    with watched("secret") as (primary, sentinel):
        url = f"redis+sentinel://:secret@{HOST}:{free_port()},{HOST}:{sentinel.port}/{PRIMARY}/1"
        counting = Counting(settings.model_copy(update={"redis_url": url}), store)
        counting.feed(10)
        settle(counting)
        with primary.client() as client:
            assert list(client.info("keyspace")) == ["db1"]
        (finding,) = check_redis(counting.settings)
        assert finding.level == "ok"
        counting.close()


def test_a_user_with_the_documented_rights_is_enough(settings: Settings, store: CountStore) -> None:
    """The categories in docs/running.md, and keys of the prefix only."""
    with running() as server:
        with server.client() as client:
            client.execute_command(
                "ACL", "SETUSER", "funnelwatch", "on", ">p", f"~{{{settings.redis_prefix}}}:*",
                "+@read", "+@write", "+@connection", "+@transaction", "+@scripting", "+info",
            )  # fmt: skip
        url = f"redis://funnelwatch:p@{HOST}:{server.port}/0"
        counting = Counting(settings.model_copy(update={"redis_url": url}), store)
        counting.feed(10)
        settle(counting)
        counting.cache.clear()
        settle(counting)
        assert check_redis(counting.settings).__next__().level == "ok"
        counting.close()


def test_an_error_that_goes_away_is_logged_too(
    settings: Settings, store: CountStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis is started after the worker: it works again, and has everything."""
    server = OwnRedis()
    counting = Counting(settings.model_copy(update={"redis_url": server.url}), store)
    with caplog.at_level(logging.WARNING, "funnelwatch.stream"):
        counting.feed()
        server.start()
        try:
            settle(counting)
        finally:
            server.stop()
    assert counting.rebuild.error is None
    assert "works again" in caplog.text
    counting.close()


def test_reading_commands_explain_what_is_wrong(settings: Settings, store: CountStore) -> None:
    """``rebuild redis`` ends with one line that says what to do."""
    with without_password() as url:
        env = {"FUNNELWATCH_REDIS_URL": url, "FUNNELWATCH_TIMESCALE_URL": revealed(settings.timescale_url)}
        done = CliRunner(env=env).invoke(cli, ["rebuild", "redis"])
    assert done.exit_code == 1
    assert "Redis" in done.output
    assert "asks for a password" in done.output, done.output


def test_a_url_that_cannot_be_read_is_explained_without_it() -> None:
    """It may hold a password."""
    for url in ("http://:secret@h/0", "redis+sentinel://:secret@h", "redis+sentinel://:secret@h:x/name"):
        with pytest.raises(UrlError) as found:
            connect(url)
        assert "secret" not in explain(found.value)
        assert "redis+sentinel://" in explain(found.value)
