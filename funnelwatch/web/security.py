"""Rejects requests for other hosts and adds security headers to every response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

from funnelwatch.producers.http.problem import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from funnelwatch.schemas.web_hosts import Hosts

HEADERS = {
    # Nothing from elsewhere, no script and no style within the page; a frame of the same origin only may hold it.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Passes requests for the allowed hosts on, and adds security headers to the responses.

    Args:
        app: the application behind it.
        hosts: the allowed host names.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or reject it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"] != "/" and not scope["path"].startswith("/static/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        if self._hosts.answers(host):
            await self._app(scope, receive, send_with_headers)
            return
        detail = "this server does not answer to that host name; FUNNELWATCH_BOARD_HOSTS names those it answers to"
        await Problem(400, detail).response()(scope, receive, send_with_headers)
