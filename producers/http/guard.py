"""uvicorn's HTTP protocol with limits on slow clients and on connections, for every server of funnelwatch.

uvicorn limits how long a connection may be idle between requests, not how long a request's head may take: a client that
sends a byte now and then (slow loris) would keep its connection for ever. Nor does uvicorn limit the connections of one
address, or the chunks of a body, each of which costs as much as kilobytes of data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from funnelwatch.producers.http.connections import COME_AGAIN, ConnectionLimits, Connections, fitting, too_slow

if TYPE_CHECKING:
    import asyncio

FREE_CHUNKS = 1_000
BYTES_OF_A_CHUNK = 64
"""Beyond ``FREE_CHUNKS``, the chunks of a body must have so many bytes on average."""


class Guarded(H11Protocol):
    """One connection.

    Attributes:
        others: all open connections of the server.
    """

    others: Connections
    _header_timer: asyncio.TimerHandle | None = None
    _idle_since: float = 0.0
    _chunks: int = 0
    _chunk_bytes: int = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._next_event = self.conn.next_event
        self.conn.next_event = self._counted_event  # type: ignore[method-assign]

    @property
    def address(self) -> str:
        """Address of the client."""
        return self.client[0] if self.client else ""

    @property
    def waiting_since(self) -> float | None:
        """When it began to wait for a request; None while one is answered."""
        return self._idle_since if self._between_requests() else None

    def turn_away(self) -> None:
        """Reject the client with Retry-After, and close the connection."""
        self._stop_waiting()
        self._hang_up(COME_AGAIN)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, or reject the connection over the limit."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        if self.others.enter(self):
            self._begin_to_wait()
        else:
            self._hang_up(COME_AGAIN)

    def data_received(self, data: bytes) -> None:
        """Wait no longer where a request has begun."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._between_requests():
            self._begin_to_wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.others.leave(self)
        self._stop_waiting()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Record when the connection becomes idle."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed request; close the connection if a response has begun."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _counted_event(self) -> Any:
        """The next event of the connection; a body in too many small chunks is an error of the client."""
        event = self._next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._chunk_bytes = 0
        elif isinstance(event, h11.Data) and event.chunk_end:
            self._chunks += 1
            self._chunk_bytes += len(event.data)
            if self._chunks > FREE_CHUNKS + self._chunk_bytes // BYTES_OF_A_CHUNK:
                raise h11.RemoteProtocolError("the body has too many small chunks")
        return event

    def _between_requests(self) -> bool:
        """Whether no request is being answered; what has come is part of a head, or of a body nobody reads."""
        return self.cycle is None or self.cycle.response_complete

    def _begin_to_wait(self) -> None:
        if self._header_timer is None and not self.transport.is_closing():
            self._header_timer = self.loop.call_later(self.others.limits.header_timeout_s, self._end_slow_head)

    def _stop_waiting(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _end_slow_head(self) -> None:
        self._header_timer = None
        if not self.transport.is_closing() and self._between_requests():
            self._hang_up(too_slow(self.others.limits.header_timeout_s))

    def _hang_up(self, answer: bytes) -> None:
        """Answer without waiting for a request, unless an answer was given before; and close the connection."""
        if self.conn.our_state is h11.IDLE:
            self.transport.write(answer)
        self.transport.close()


def guarded(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """A protocol class for uvicorn's ``http``, for one server with these limits."""
    return type("GuardedWithLimits", (Guarded,), {"others": Connections(fitting(limits))})
