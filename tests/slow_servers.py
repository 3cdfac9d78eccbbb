"""Receivers that take their time: each plays a script of bytes and pauses to whoever connects."""

from __future__ import annotations

import contextlib
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from funnelwatch.deploy.embedded.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Visit:
    """One connection, for the script that serves it."""

    def __init__(self, connection: socket.socket, ended: threading.Event) -> None:
        self.connection = connection
        self.ended = ended

    def pause(self, seconds: float) -> None:
        """Let time pass, until the test ends at the latest."""
        self.ended.wait(seconds)

    def trickle(self, text: bytes, pause_s: float) -> None:
        """Send a text byte by byte."""
        for number in range(len(text)):
            self.connection.sendall(text[number : number + 1])
            self.pause(pause_s)

    def request(self) -> bytes:
        """Read an HTTP request with its body."""
        got = b""
        while b"\r\n\r\n" not in got:
            got += self.connection.recv(65_536)
        head, _, body = got.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        while len(body) < length:
            body += self.connection.recv(65_536)
        return got


class Slow:
    """A server that plays a script.

    Attributes:
        port: where it listens.
        visits: how many have connected.
        requests: what a script has put there.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.visits = 0
        self.requests: list[bytes] = []

    @property
    def url(self) -> str:
        """Its address for HTTP."""
        return f"http://{HOST}:{self.port}/hook"


@contextmanager
def serving(script: Callable[[Slow, Visit], None]) -> Iterator[Slow]:
    """A server on a free port of 127.0.0.1 that serves each connection on a thread of its own."""
    ended = threading.Event()
    threads: list[threading.Thread] = []
    with socket.create_server((HOST, 0)) as listener:
        slow = Slow(listener.getsockname()[1])

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError, IndexError):
                script(slow, Visit(connection, ended))

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                slow.visits += 1
                connection.settimeout(60)
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield slow
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def mail_script(pause_s: float, last_pause_s: float | None = None) -> Callable[[Slow, Visit], None]:
    """A mail server that waits before each answer; before that to the message itself another time, if one is given."""

    def script(slow: Slow, visit: Visit) -> None:
        lines = visit.connection.makefile("rb")
        visit.pause(pause_s)
        visit.connection.sendall(b"220 slow\r\n")
        while line := lines.readline():
            visit.pause(pause_s)
            verb = line[:4].upper()
            if verb == b"DATA":
                visit.connection.sendall(b"354 go on\r\n")
                message = b""
                while not message.endswith(b"\r\n.\r\n"):
                    message += lines.readline()
                slow.requests.append(message)
                visit.pause(pause_s if last_pause_s is None else last_pause_s)
            visit.connection.sendall(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")

    return script
