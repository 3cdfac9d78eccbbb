"""Runs the collector: uvicorn with limits; on a signal it completes the requests in flight and ends."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import uvicorn

from funnelwatch.producers.collector.app import create_app
from funnelwatch.producers.collector.delivery import GRACE_S
from funnelwatch.producers.http.connections import BACKLOG, ConnectionLimits
from funnelwatch.producers.http.guard import guarded

if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    from funnelwatch.schemas.settings import Settings

KEEP_ALIVE_S = 30
"""A connection may be idle this long between two requests, s."""


class Server(uvicorn.Server):
    """uvicorn that reports its address.

    Args:
        config: uvicorn's.
        listening: called with the address once the server accepts requests.
    """

    def __init__(self, config: uvicorn.Config, listening: Callable[[str], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen, and report the address."""
        await super().startup(sockets)
        if self.started and self.servers:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")


def serve(settings: Settings, listening: Callable[[str], None]) -> bool:
    """Serve until SIGINT or SIGTERM.

    Args:
        settings: of the collector.
        listening: called with the address once the server accepts requests.

    Returns:
        Whether it served; False if it could not listen; uvicorn logs the reason.
    """
    proxies = frozenset(proxy.strip() for proxy in settings.collector_trusted_proxies.split(",") if proxy.strip())
    limits = ConnectionLimits(
        settings.collector_header_timeout_s,
        settings.collector_max_connections,
        settings.collector_max_connections_per_address,
        proxies,
    )
    config = uvicorn.Config(
        create_app(settings),
        host=settings.collector_host,
        port=settings.collector_port,
        http=guarded(limits),
        backlog=BACKLOG,
        ws="none",
        log_level=settings.log_level.lower(),
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.collector_trusted_proxies),
        forwarded_allow_ips=settings.collector_trusted_proxies or None,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.collector_delivery_timeout_s + GRACE_S) + 1,
    )
    server = Server(config, listening)
    with contextlib.suppress(SystemExit):  # uvicorn's own end where it cannot listen
        server.run()
    return server.started
