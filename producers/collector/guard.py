"""uvicorn's protocol with an end to patience, and with no more connections than there may be.

uvicorn limits how long a connection may be idle between requests, not how long a request's head may take, so that a
client that sends a byte now and then (slow loris) would keep its connection for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

CLOSING = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"


class Guarded(H11Protocol):
    """One connection.

    Attributes:
        header_timeout_s: a request's head must be complete so many seconds after its first byte, and the first one so
            many seconds after connecting.
        most_connections: who comes beyond that is told to come again.
    """

    header_timeout_s: float
    most_connections: int
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, or hang up where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self._refuse(503, "Service Unavailable", "too many connections", "Retry-After: 5\r\n")
        else:
            self._begin_to_wait()

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
        """Nothing is waited for."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _between_requests(self) -> bool:
        """Whether no request is being answered; what has come is part of a head, or of a body nobody reads."""
        return self.cycle is None or self.cycle.response_complete

    def _begin_to_wait(self) -> None:
        if self._patience is None and not self.transport.is_closing():
            self._patience = self.loop.call_later(self.header_timeout_s, self._lose_patience)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        self._patience = None
        if self.transport.is_closing() or not self._between_requests():
            return
        if self.conn.our_state is h11.IDLE:
            what = f"the head of the request was not complete after {self.header_timeout_s:g} s"
            self._refuse(408, "Request Timeout", what)
        else:
            self.transport.close()

    def _refuse(self, status: int, phrase: str, what: str, headers: str = "") -> None:
        """Answer without waiting for a request, and hang up."""
        head = f"HTTP/1.1 {status} {phrase}\r\n{headers}{CLOSING}Content-Length: {len(what)}\r\n\r\n"
        self.transport.write((head + what).encode())
        self.transport.close()


def guarded(header_timeout_s: float, most_connections: int) -> type[asyncio.Protocol]:
    """A protocol class for uvicorn's ``http``, with these limits."""
    limits = {"header_timeout_s": header_timeout_s, "most_connections": most_connections}
    return type("GuardedWithLimits", (Guarded,), limits)
