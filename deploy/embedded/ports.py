"""Free ports on 127.0.0.1."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "127.0.0.1"


def free_ports(preferred: Mapping[str, int | None]) -> dict[str, int]:
    """A free port for each name: the preferred one if it is free, else any; all are different.

    Another program may take one before it is used: whoever starts a server on it must be ready to choose again.
    """
    with contextlib.ExitStack() as held:
        return {name: held.enter_context(_bound(port)).getsockname()[1] for name, port in preferred.items()}


def free_port() -> int:
    """Any free port."""
    return free_ports({"any": None})["any"]


def _bound(port: int | None) -> socket.socket:
    for candidate in (port or 0, 0):
        listener = socket.socket()
        # Connections that linger after a restart do not make a port taken; a listener does.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, candidate))
            listener.listen(1)
        except OSError:
            listener.close()
            if candidate == 0:
                raise
        else:
            return listener
    raise AssertionError("the second try either succeeds or raises")
