"""Runs web servers: uvicorn with the same limits everywhere, and a metrics page in a thread."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import uvicorn
from prometheus_client.exposition import choose_encoder

from funnelwatch.producers.http.connections import BACKLOG, web_limits
from funnelwatch.producers.http.guard import guarded
from funnelwatch.schemas.web_hosts import Hosts, names_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from starlette.types import ASGIApp, Receive, Scope, Send

    from funnelwatch.schemas.settings import Settings

GRACE_S = 3
"""Limit of open requests at shutdown, s."""
KEEP_ALIVE_S = 30
"""A connection may be idle so long between two requests, s: longer than Prometheus waits between two scrapes."""
WRONG_HOST = "this server does not answer to that host name; FUNNELWATCH_WEB_HOSTS names those it answers to\n"


def uvicorn_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """Uvicorn with limits, for a socket that listens already."""
    return uvicorn.Config(
        app,
        http=guarded(web_limits(settings)),
        ws="none",
        backlog=BACKLOG,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )


def listening(host: str, port: int) -> socket.socket:
    """A listening socket; connections queue from now on, before the server runs.

    Raises:
        OSError: it cannot.
    """
    [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class MetricsServer:
    """``/metrics`` of a program that has no other page, in a thread of its own.

    Args:
        settings: the limits, the address to bind to, and the host names.
        port: where it listens; 0: a free port.
        registry: what it shows.

    Raises:
        OSError: it cannot listen there.
    """

    def __init__(self, settings: Settings, port: int, registry: CollectorRegistry) -> None:
        self._listener = listening(settings.web_host, port)
        self.port: int = self._listener.getsockname()[1]
        app = MetricsPage(registry, Hosts(names_of(settings.web_hosts, settings.web_host)))
        self._server = uvicorn.Server(uvicorn_config(app, settings))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, name="metrics", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


class MetricsPage:
    """The metrics of a registry, as an ASGI app.

    Args:
        registry: read in a thread, since it may query a database.
        hosts: the host names that are answered to.
    """

    def __init__(self, registry: CollectorRegistry, hosts: Hosts) -> None:
        self._registry = registry
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if not self._hosts.answers(headers.get("host", "")):
            await _send(send, 400, WRONG_HOST.encode())
        elif scope["path"] not in ("/", "/metrics"):
            await _send(send, 404, b"there is /metrics\n")
        elif scope["method"] not in ("GET", "HEAD"):
            await _send(send, 405, b"this can only be read\n", {"allow": "GET, HEAD"})
        else:
            names = parse_qs(scope["query_string"].decode("latin-1")).get("name[]", [])
            encode, kind = choose_encoder(headers.get("accept", ""))
            body = await asyncio.to_thread(lambda: encode(self._chosen(names)))
            more = {"content-type": kind}
            if "gzip" in headers.get("accept-encoding", ""):
                body, more["content-encoding"] = await asyncio.to_thread(gzip.compress, body, 1), "gzip"
            await _send(send, 200, body, more)

    def _chosen(self, names: list[str]) -> Any:
        return self._registry.restricted_registry(names) if names else self._registry


async def _send(send: Send, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    given = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body)), **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
