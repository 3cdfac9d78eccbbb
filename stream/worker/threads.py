"""The threads of a worker: one for each kind of blocking work, so that none waits for another."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CONTACT_THREADS = ("kafka", "database", "redis")
"""Each server is asked on a thread of its own, so that one that hangs does not hide the others."""

THREADS = ("intake", "count", "cache", "metrics", "close", "detect", "watchdog", "maintenance", *CONTACT_THREADS)


class Threads:
    """Runs blocking functions; those of one thread run one after the other, in the order of the calls."""

    def __init__(self) -> None:
        # They start with their first function, so a worker that never starts has none.
        self._pools = {name: ThreadPoolExecutor(1, thread_name_prefix=name) for name in THREADS}

    async def run(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """The function's result, from that thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pools[name], function, *arguments)
