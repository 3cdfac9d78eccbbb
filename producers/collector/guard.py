"""uvicorn's protocol with limits against slow and many clients, for every server that uvicorn runs here.

uvicorn limits how long a connection may be idle between requests, not how long a request's head may take: a client that
sends a byte now and then (slow loris) would keep its connection for ever. Nor does uvicorn limit the connections of one
address, or the chunks of a body, each of which costs as much as kilobytes of data.
"""

from __future__ import annotations

import logging
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

logger = logging.getLogger("funnelwatch.web")

CLOSING = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
FREE_CHUNKS = 1_000
BYTES_OF_A_CHUNK = 64
"""Beyond ``FREE_CHUNKS``, the chunks of a body must have so many bytes on average."""
OTHER_DESCRIPTORS = 100
"""File descriptors that a process needs beside its clients' connections: database, Kafka, Redis, files, and those
that are accepted together."""
BACKLOG = 64
"""Connections that the system holds, and that are accepted together."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of one server.

    Attributes:
        header_timeout_s: a request's head must be complete so many seconds after its first byte, and the first one so
            many seconds after connecting.
        connections: open at once; beyond that, the one that has been waiting longest for a request is closed, and
            without such a one the new one is refused.
        of_one_address: the same for the connections of one address; 0: no limit of its own.
        proxies: addresses of trusted proxies, which ``of_one_address`` does not apply to.
    """

    header_timeout_s: float
    connections: int
    of_one_address: int = 0
    proxies: frozenset[str] = frozenset()


class Guarded(H11Protocol):
    """One connection."""

    limits: ConnectionLimits
    _patience: asyncio.TimerHandle | None = None
    _waiting_since: float = 0.0
    _chunks: int = 0
    _chunk_bytes: int = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._next_event = self.conn.next_event
        self.conn.next_event = self._counted_event  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; make room where there are too many connections."""
        super().connection_made(transport)
        if self._has_room():
            self._begin_to_wait()
        else:
            self._refuse(503, "Service Unavailable", "too many connections", "Retry-After: 5\r\n")

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

    def on_response_complete(self) -> None:
        """The connection is idle from now on."""
        self._waiting_since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer to what is no HTTP, unless an answer has begun: then only hang up."""
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

    def _has_room(self) -> bool:
        """Whether there is room for this connection, if need be in the place of one that waits for a request."""
        others = [one for one in self.connections if isinstance(one, Guarded) and not one.transport.is_closing()]
        address = self._address()
        if self.limits.of_one_address and address not in self.limits.proxies:
            same = [one for one in others if one._address() == address]  # noqa: SLF001 - of this class
            if len(same) > self.limits.of_one_address:
                return self._replace_one_of(same)
        return len(others) <= self.limits.connections or self._replace_one_of(others)

    def _replace_one_of(self, others: Iterable[Guarded]) -> bool:
        """Close the connection that has been waiting longest for a request; whether there was one."""
        idle = [one for one in others if one is not self and one._between_requests()]  # noqa: SLF001 - of this class
        if not idle:
            return False
        longest = min(idle, key=lambda one: one._waiting_since)  # noqa: SLF001 - of this class
        longest._stop_waiting()  # noqa: SLF001 - of this class
        longest._refuse(503, "Service Unavailable", "too many connections", "Retry-After: 5\r\n")  # noqa: SLF001
        return True

    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def _between_requests(self) -> bool:
        """Whether no request is being answered; what has come is part of a head, or of a body nobody reads."""
        return self.cycle is None or self.cycle.response_complete

    def _begin_to_wait(self) -> None:
        if self._patience is None and not self.transport.is_closing():
            self._waiting_since = self.loop.time()
            self._patience = self.loop.call_later(self.limits.header_timeout_s, self._lose_patience)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        self._patience = None
        if self.transport.is_closing() or not self._between_requests():
            return
        if self.conn.our_state is h11.IDLE:
            what = f"the head of the request was not complete after {self.limits.header_timeout_s:g} s"
            self._refuse(408, "Request Timeout", what)
        else:
            self.transport.close()

    def _refuse(self, status: int, phrase: str, what: str, headers: str = "") -> None:
        """Answer without waiting for a request, and hang up."""
        if self.conn.our_state is h11.IDLE:
            head = f"HTTP/1.1 {status} {phrase}\r\n{headers}{CLOSING}Content-Length: {len(what)}\r\n\r\n"
            self.transport.write((head + what).encode())
        self.transport.close()


def guarded(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """A protocol class for uvicorn's ``http``, with these limits.

    The process's limit of file descriptors is raised where it is too low for that many connections, and where that is
    not allowed, there are fewer connections.
    """
    fitting = _fitting(limits.connections)
    if fitting < limits.connections:
        logger.warning(
            "at most %d connections, not %d: this process may have too few file descriptors (ulimit -n)",
            fitting,
            limits.connections,
        )
        limits = ConnectionLimits(limits.header_timeout_s, fitting, limits.of_one_address, limits.proxies)
    return type("GuardedWithLimits", (Guarded,), {"limits": limits})


def _fitting(connections: int) -> int:
    """How many connections the process has file descriptors for, once its limit is raised as far as allowed."""
    needed = connections + OTHER_DESCRIPTORS + BACKLOG
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, raised), hard))
        soft = max(soft, raised)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    return max(1, soft - OTHER_DESCRIPTORS - BACKLOG)
