"""Limits the open connections of a server, and chooses the connection to close at the limit."""

from __future__ import annotations

import logging
import resource
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from funnelwatch.schemas.settings import Settings

logger = logging.getLogger("funnelwatch.web")

BACKLOG: Final = 64
"""Connections that the system holds, and that are accepted together."""
OTHER_DESCRIPTORS: Final = 100
"""File descriptors that a process needs beside its clients' connections: database, Kafka, Redis, files."""
TOO_MANY: Final = "too many connections"


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of one server.

    Attributes:
        header_timeout_s: a request's head must be complete so many seconds after its first byte, and the first one so
            many seconds after connecting.
        connections: open at once; beyond that, the one that has been waiting longest for a request is closed, and
            without such a one the new one is rejected.
        of_one_address: the same for the connections of one address; 0: no limit of its own.
        proxies: addresses of trusted proxies, which ``of_one_address`` does not apply to.
    """

    header_timeout_s: float
    connections: int
    of_one_address: int = 0
    proxies: frozenset[str] = frozenset()


def web_limits(settings: Settings) -> ConnectionLimits:
    """The limits of board, exporter, notifier and worker."""
    return ConnectionLimits(
        settings.web_header_timeout_s, settings.web_max_connections, settings.web_max_connections_per_address
    )


class Connection(Protocol):
    """One connection of a server."""

    @property
    def address(self) -> str:
        """Address of the client."""

    @property
    def waiting_since(self) -> float | None:
        """When it began to wait for a request, by the loop's clock; None while a request is answered."""

    def turn_away(self) -> None:
        """Reject the client with Retry-After, and close the connection."""


class Connections:
    """The open connections of a server.

    Args:
        limits: how many there may be.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: set[Connection] = set()

    def enter(self, one: Connection) -> bool:
        """Admit a new connection, at the limit in place of one that waits for a request; whether it was admitted.

        A flood of silent connections therefore keeps no client out that sends a request at once.
        """
        self._open.add(one)
        most = self.limits.of_one_address
        if most and one.address not in self.limits.proxies:
            same = [other for other in self._open if other.address == one.address]
            if len(same) > most:
                return self._replaced(same, one)
        return len(self._open) <= self.limits.connections or self._replaced(self._open, one)

    def leave(self, one: Connection) -> None:
        """Remove a closed connection."""
        self._open.discard(one)

    def _replaced(self, others: Iterable[Connection], one: Connection) -> bool:
        """Close the connection that has been waiting longest; whether there was one."""
        waiting = [
            (since, other) for other in others if other is not one and (since := other.waiting_since) is not None
        ]
        if not waiting:
            self._open.discard(one)
            return False
        _, longest = min(waiting, key=lambda pair: pair[0])
        self._open.discard(longest)
        longest.turn_away()
        return True


def fitting(limits: ConnectionLimits) -> ConnectionLimits:
    """The limits, reduced to the file descriptors of the process after raising its own limit."""
    needed = limits.connections + OTHER_DESCRIPTORS + BACKLOG
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return limits
    raised = max(soft, needed if hard == resource.RLIM_INFINITY else min(needed, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    if raised >= needed:
        return limits
    fewer = max(1, raised - OTHER_DESCRIPTORS - BACKLOG)
    logger.warning("at most %d connections, not %d: this process may open %d files (ulimit -n)", fewer,
                   limits.connections, raised)  # fmt: skip
    return replace(limits, connections=fewer)


def rejection(status: int, phrase: str, what: str, headers: str = "") -> bytes:
    """A response without a request; the connection ends after it."""
    closing = "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    return f"HTTP/1.1 {status} {phrase}\r\n{headers}{closing}Content-Length: {len(what)}\r\n\r\n{what}".encode()


COME_AGAIN: Final = rejection(503, "Service Unavailable", TOO_MANY, "Retry-After: 5\r\n")


def too_slow(header_timeout_s: float) -> bytes:
    """The response to a client that does not complete the head of its request."""
    return rejection(408, "Request Timeout", f"the head of the request was not complete after {header_timeout_s:g} s")
