"""Runs a call on a thread of its own while the caller does other work."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def aside(call: Callable[[], T], name: str, tick_s: float, tick: Callable[[], None]) -> T:
    """The result of a call, or what it raises.

    Args:
        call: its thread does not keep the process alive.
        name: of the thread.
        tick_s: seconds between ticks.
        tick: called while the call runs; its exceptions are raised here, and the call then runs on unattended.
    """
    results: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - the waiting thread raises it
            results.put(_raising(error))
        else:
            results.put(lambda: result)

    threading.Thread(target=run, name=name, daemon=True).start()
    while True:
        try:
            return results.get(timeout=tick_s)()
        except queue.Empty:
            tick()


def _raising(error: BaseException) -> Callable[[], NoReturn]:
    def again() -> NoReturn:
        raise error

    return again
