"""A door before a server of the test run, to be shut and opened: the outage of a server that others go on using."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from funnelwatch.deploy.embedded.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator


class Door:
    """Passes bytes on to a server while it is open.

    Attributes:
        port: where to connect instead.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server = socket.create_server((HOST, 0))
        self.port: int = self._server.getsockname()[1]
        self._open = True
        self._pass = threading.Event()
        self._pass.set()
        self._sockets: list[socket.socket] = []
        self._over = False
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        """Cut all connections and take none: as a server that is down."""
        self._open = False
        self._cut()

    def freeze(self) -> None:
        """Keep connections and pass nothing on: as a server that hangs."""
        self._pass.clear()

    def open(self) -> None:
        """Pass on again."""
        self._open = True
        self._pass.set()

    def close(self) -> None:
        """Remove the door."""
        self._over = True
        self._pass.set()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._cut()

    def _cut(self) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._sockets = []

    def _accept(self) -> None:
        while not self._over:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            if not self._open:
                near.close()
                continue
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._pass.wait()
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def door(url: str) -> Iterator[tuple[Door, str]]:
    """A door before the server of this URL, and the URL that leads through it."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    made = Door(parts.hostname, parts.port)
    try:
        yield made, url.replace(f"{parts.hostname}:{parts.port}", f"{HOST}:{made.port}")
    finally:
        made.close()
