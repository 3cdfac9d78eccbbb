"""Fair turns on the event loop: requests are parsed and checked one at a time, in slices of bounded work.

Parsing a megabyte takes long enough to delay every other request. Each request therefore takes a turn, and gives the
loop back after every slice, so that ``/healthz`` and the timeouts of other connections wait for one slice at most,
however many requests there are.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

Item = TypeVar("Item")
Made = TypeVar("Made")

SLICE = 25
"""Events (or lines) worked on before the loop serves others."""


class Turns:
    """One request's work at a time."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn; the loop has served others before it begins."""
        async with self._lock:
            await asyncio.sleep(0)
            yield

    async def map(self, make: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
        """Apply a function to each item, in slices."""
        made: list[Made] = []
        async with self._lock:
            for number, item in enumerate(items):
                if number % SLICE == 0:
                    await asyncio.sleep(0)
                made.append(make(item))
        return made
