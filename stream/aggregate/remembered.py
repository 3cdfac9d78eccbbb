"""An answer that is asked for often and changes seldom."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Remembered(Generic[T]):
    """Calls a function at most once in a while, and returns its last result meanwhile. Thread-safe.

    Args:
        ask: the function. What it raises is raised, and the next call asks again.
        keep_s: for how long a result is returned, s.
        monotonic: the clock, s.
    """

    def __init__(self, ask: Callable[[], T], keep_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._keep_s = keep_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._result: T | None = None

    def __call__(self) -> T:
        """The result, at most ``keep_s`` old."""
        with self._lock:
            result = self._result
            if result is None or self._monotonic() >= self._until:
                result = self._result = self._ask()
                self._until = self._monotonic() + self._keep_s
            return result
