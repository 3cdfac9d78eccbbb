"""Server-sent events to one browser (WHATWG HTML, "Server-sent events").

Each message is the whole of its part, so nothing has to be sent again after a break: a page that comes back, to this
server or the next, is given everything as it is now. ``beat`` comes every two seconds whatever happens, with the
server's clock, so that a page knows within seconds that it has lost the server, and how old its numbers are.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from starlette.responses import Response

from funnelwatch.schemas.clock import wall_clock_ms

if TYPE_CHECKING:
    import threading
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from funnelwatch.web.board.hub import Hub
    from funnelwatch.web.board.query import BoardQuery

RETRY_MS = 1000
"""After a break a browser tries again this much later."""
BEAT_EVERY_S = 2.0
LOOK_EVERY_S = 0.2
SLOW_S = 20.0
"""The server drops a browser that takes no message for this long; the browser may reconnect."""


class EventStream(Response):
    """An endless answer; it ends with the server, with the browser's leaving, or when that does not take it."""

    media_type = "text/event-stream"

    def __init__(
        self, hub: Hub, query: BoardQuery, stopping: threading.Event, slow_s: float = SLOW_S, *, address: str = ""
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._hub = hub
        self._query = query
        self._stopping = stopping
        self._slow_s = slow_s
        self._address = address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until it ends."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with anyio.create_task_group() as tasks:

            async def leave() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                tasks.cancel_scope.cancel()

            tasks.start_soon(leave)
            with self._hub.watch(self._query, self._address), anyio.move_on_after(None) as send_limit:
                async for chunk in self._chunks():
                    send_limit.deadline = anyio.current_time() + self._slow_s
                    await send({"type": "http.response.body", "body": chunk.encode(), "more_body": True})
                    send_limit.deadline = float("inf")
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            tasks.cancel_scope.cancel()

    async def _chunks(self) -> AsyncIterator[str]:
        sent: dict[str, str] = {}
        version, beaten = None, -BEAT_EVERY_S
        yield f"retry: {RETRY_MS}\n\n"
        while not self._stopping.is_set():
            if time.monotonic() - beaten >= BEAT_EVERY_S:
                beaten = time.monotonic()
                yield event("beat", json.dumps({"server": wall_clock_ms()}))
            if version != self._hub.version:
                version = self._hub.version
                for part, text in (await to_thread.run_sync(self._hub.messages, self._query)).items():
                    if sent.get(part) != text:
                        sent[part] = text
                        yield event(part, text)
            await anyio.sleep(LOOK_EVERY_S)


def event(name: str, data: str) -> str:
    """One event; its id is the time at which it was sent, ms. ``data`` has no line breaks, as JSON has none."""
    return f"event: {name}\nid: {wall_clock_ms()}\ndata: {data}\n\n"
