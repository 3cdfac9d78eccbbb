"""Free ports on 127.0.0.1."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "127.0.0.1"
RANGE = range(20_000, 32_000)
"""Below the ports from which systems take those of outgoing connections: a port of this range stays free between
``down`` and ``up``, and a client that keeps calling a closed port cannot connect to itself."""
GIVEN: deque[int] = deque(maxlen=1_000)
"""Ports that this process returned lately: the caller may not have bound them yet."""
PORT_FREE_WITHIN_S = 3.0
"""A server that was killed a moment ago holds its port until its last thread has ended."""


def free_ports(preferred: Mapping[str, int | None]) -> dict[str, int]:
    """A free port for each name: the preferred one if it is free, else any; all are different.

    Another program may take a port before the server binds it: the caller must be ready to choose again.
    """
    with contextlib.ExitStack() as held:
        return {name: held.enter_context(_bound(port)).getsockname()[1] for name, port in preferred.items()}


def free_port() -> int:
    """Any free port."""
    return free_ports({"any": None})["any"]


def _bound(preferred: int | None) -> socket.socket:
    deadline = time.monotonic() + PORT_FREE_WITHIN_S
    while preferred is not None and time.monotonic() < deadline:
        if (listener := _listen(preferred)) is not None:
            return listener
        time.sleep(0.02)
    for port in random.SystemRandom().sample(RANGE, 100):
        if port not in GIVEN and (listener := _listen(port)) is not None:
            GIVEN.append(port)
            return listener
    listener = _listen(0)
    if listener is None:
        raise OSError(f"no port is free on {HOST}")
    return listener


def _listen(port: int) -> socket.socket | None:
    listener = socket.socket()
    # Connections that linger after a restart do not make a port taken; a listener does.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(1)
    except OSError:
        listener.close()
        return None
    return listener
