"""The worker's pages behind the limits of the other web servers.

Faust serves its pages with aiohttp, which bounds the size of a request's head and how long a connection may be idle,
not how long a head may take, nor how many connections there are. Each connection gets a guard between the socket and
aiohttp; requests for other host names are rejected before any page.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_runner import AppRunner
from faust.web.drivers.aiohttp import Web

from funnelwatch.producers.http.connections import BACKLOG, COME_AGAIN, Connections, fitting, too_slow, web_limits
from funnelwatch.schemas.settings import load_settings
from funnelwatch.schemas.web_hosts import Hosts, names_of

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler
    from faust.types import AppT

logger = logging.getLogger("funnelwatch.worker.web")

KEEP_ALIVE_S = 30.0
"""A connection may be idle so long between two requests, s."""
LINGER_S = 5.0
"""A body that no page reads is read for so long, s, before the connection is closed."""
WRONG_HOST = "this server does not answer to that host name; FUNNELWATCH_WEB_HOSTS names those it answers to\n"


class GuardedWeb(Web):
    """Faust's web server with limits.

    Args:
        app: the Faust app.
        kwargs: of Faust's driver.
    """

    def __init__(self, app: AppT, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        settings = load_settings()
        self._connections = Connections(fitting(web_limits(settings)))
        self._server: asyncio.Server | None = None
        logger.addFilter(NotBadRequests())
        self._runner = AppRunner(
            self.web_app, access_log=None, keepalive_timeout=KEEP_ALIVE_S, lingering_time=LINGER_S, logger=logger
        )
        self.web_app.middlewares.append(_host_check(Hosts(names_of(settings.web_hosts, settings.web_host))))

    async def start_server(self) -> None:
        """Listen, with a guard before each connection."""
        await self._runner.setup()
        make = self._runner.server
        assert make is not None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: GuardedConnection(make(), self._connections),
            self.app.conf.web_bind,
            self.app.conf.web_port,
            backlog=BACKLOG,
        )

    async def stop_server(self) -> None:
        """Listen no more, and end what is open."""
        if self._server is not None:
            self._server.close()
        await super().stop_server()


class NotBadRequests(logging.Filter):
    """Drops the tracebacks that aiohttp logs for input that is not HTTP."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is logged."""
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _host_check(hosts: Hosts) -> Any:
    """A middleware that rejects requests for other host names."""

    @web.middleware
    async def check(request: web.Request, handler: Any) -> web.StreamResponse:
        if not hosts.answers(request.headers.get("Host", "")):
            return web.Response(status=400, text=WRONG_HOST)
        answer: web.StreamResponse = await handler(request)
        return answer

    return check


class GuardedConnection(asyncio.Protocol):
    """One connection: passes on to aiohttp what comes, and ends it where the head of a request takes too long.

    Args:
        inner: aiohttp's side of it.
        others: all connections of the server.
    """

    def __init__(self, inner: RequestHandler, others: Connections) -> None:
        self._inner = inner
        self._others = others
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._header_timer: asyncio.TimerHandle | None = None
        self._idle_since = self._loop.time()
        self.address = ""

    @property
    def waiting_since(self) -> float | None:
        """When it began to wait for a request; None while one is answered."""
        return None if self._answering() else self._idle_since

    def turn_away(self) -> None:
        """Answer that the client must retry, and hang up."""
        self._hang_up(COME_AGAIN)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request, or hang up where there are too many connections."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self._inner.connection_made(transport)
        if self._others.enter(self):
            self._begin_to_wait()
        else:
            self._hang_up(COME_AGAIN)

    def data_received(self, data: bytes) -> None:
        """Pass it on; wait no longer where a request is complete."""
        if self._transport is None or self._transport.is_closing():
            return
        answering = self._answering()
        self._inner.data_received(data)
        if self._answering():
            self._stop_waiting()
        else:
            if answering:
                self._idle_since = self._loop.time()
            self._begin_to_wait()

    def eof_received(self) -> None:
        """Pass it on."""
        self._inner.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing is waited for."""
        self._others.leave(self)
        self._stop_waiting()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()

    def _answering(self) -> bool:
        """Whether the head of a request is there and its answer is not complete."""
        return bool(self._inner._messages) or self._inner._current_request is not None  # noqa: SLF001 - nothing else says it

    def _begin_to_wait(self) -> None:
        if self._header_timer is None:
            self._header_timer = self._loop.call_later(self._others.limits.header_timeout_s, self._end_slow_head)

    def _stop_waiting(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _end_slow_head(self) -> None:
        self._header_timer = None
        if not self._answering():
            self._hang_up(too_slow(self._others.limits.header_timeout_s))

    def _hang_up(self, answer: bytes) -> None:
        self._stop_waiting()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)
            self._transport.close()
