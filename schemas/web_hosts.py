"""The host names that a server accepts.

A foreign page can make its own name resolve to an address of this server, and read the server through the browser of
a visitor (DNS rebinding). The browser then still sends the page's name, so a request that names an address, or this
machine, is accepted.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
ANY = "*"


class Hosts:
    """The host names of requests that a server accepts.

    Args:
        names: host names beside ``localhost`` and addresses; ``*``: any.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(name.strip().lower().rstrip(".") for name in names if name.strip())

    def answers(self, header: str) -> bool:
        """Whether a request with this Host header is accepted."""
        name = host_name(header)
        return ANY in self._names or name == "localhost" or name in self._names or _is_address(name)


def names_of(setting: str, bound_to: str) -> frozenset[str]:
    """The host names of a server.

    Args:
        setting: names, comma separated.
        bound_to: the address that it listens at; where others can reach it, this machine's own name is accepted too.
    """
    own = [] if bound_to in LOOPBACK else [bound_to, socket.gethostname()]
    return frozenset([*setting.split(","), *own])


def host_name(header: str) -> str:
    """The name in a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
