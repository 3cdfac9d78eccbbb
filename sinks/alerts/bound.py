"""The bound of one delivery: so many seconds of wall clock and so many bytes of answer, whatever the receiver does.

The timeout of a socket bounds each read: a receiver that sends a byte now and then keeps the reader for ever. Sockets
made here take their timeout anew before every operation from what is left of the delivery, through TLS as well.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BYTES = 1_000_000
"""A receiver that answers with more than this is cut off, bytes."""

Address = tuple[Any, ...]


class Bound:
    """Limits of one delivery; for the thread that delivers.

    Args:
        seconds: wall clock, from now on.
        most_bytes: bytes that are read in all.
        clock: monotonic seconds.
    """

    def __init__(
        self, seconds: float, most_bytes: int = MOST_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._until = clock() + seconds
        self._bytes_left = most_bytes
        self.is_sent = False
        """Whether the whole message has left: the receiver may have taken it though no answer came."""

    def left(self) -> float:
        """The seconds that are left, above 0.

        Raises:
            TimeoutError: none are.
        """
        left = self._until - self._clock()
        if left <= 0:
            raise TimeoutError(f"timed out: the delivery took {self._seconds:g} s")
        return left

    def shorten(self, seconds: float) -> None:
        """From now on at most this many seconds are left: what matters is done."""
        self._until = min(self._until, self._clock() + seconds)

    def took(self, size: int) -> int:
        """Count bytes that were read; their number.

        Raises:
            OSError: they are too many.
        """
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise OSError("the receiver answers with too many bytes")
        return size

    def connect(self, address: tuple[str, int], *_: object) -> socket.socket:
        """A connection to a host and port, by the first of its addresses that answers.

        Raises:
            OSError: none does, or the time is over.
        """
        error: OSError | None = None
        found = self.resolve(*address)
        for number, (family, kind, protocol, _, one) in enumerate(found):
            sock = _Socket(family, kind, protocol)
            sock.bound = self
            try:
                # An address that swallows packets leaves time for the others.
                sock.settimeout(self.left() / (len(found) - number))
                sock.connect(one)
            except OSError as this:
                sock.close()
                error = this
            else:
                return sock
        raise error or OSError(f"{address[0]} has no address")

    def resolve(self, host: str, port: int) -> list[Any]:
        """The addresses of a host, as `socket.getaddrinfo` gives them.

        The resolver cannot be interrupted: a thread waits for it, and is left behind when the time is over.

        Raises:
            OSError: it has none, or the time is over.
        """
        answers: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                answers.put(error if isinstance(error, OSError) else OSError(f"{host} is no name of a host: {error}"))

        threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
        try:
            found = answers.get(timeout=self.left())
        except queue.Empty:
            raise TimeoutError(f"timed out: the name {host} was not resolved in {self._seconds:g} s") from None
        if isinstance(found, OSError):
            raise found
        return found

    def tls(self, ca_file: str | None = None) -> ssl.SSLContext:
        """A context that checks certificates and whose sockets keep to this bound."""
        context = ssl.create_default_context(cafile=ca_file)
        # Sockets are made by the context, which knows their class and nothing else.
        context.sslsocket_class = type("_BoundTLSSocket", (_TLSSocket,), {"bound": self})
        return context


class _Socket(socket.socket):
    """A socket that keeps to a bound."""

    bound: Bound

    def recv_into(self, *args: Any) -> int:
        self.settimeout(self.bound.left())
        return self.bound.took(super().recv_into(*args))

    def send(self, *args: Any) -> int:
        self.settimeout(self.bound.left())
        return super().send(*args)

    def sendall(self, *args: Any) -> None:
        self.settimeout(self.bound.left())
        super().sendall(*args)


class _TLSSocket(ssl.SSLSocket):
    """The same over TLS."""

    bound: Bound

    def do_handshake(self, block: bool = False) -> None:
        self.settimeout(self.bound.left())
        super().do_handshake(block)

    def recv_into(self, *args: Any) -> int:
        self.settimeout(self.bound.left())
        return self.bound.took(super().recv_into(*args))

    def send(self, *args: Any) -> int:
        self.settimeout(self.bound.left())
        return super().send(*args)
