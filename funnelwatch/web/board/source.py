"""A periodic reading that all open pages share."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from funnelwatch.sinks.errors import is_transient_for_reader

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

STOP_S = 0.5
logger = logging.getLogger(__name__)


class Source(Generic[T]):
    """Calls ``read`` periodically on its own thread, and keeps the last answer and the last error.

    A failed reading keeps the previous answer; the page shows the answer's age. An error that is no outage is logged.

    Args:
        name: of the thread.
        read: returns the answer.
        first: the answer before the first reading.
        every_s: time between two readings, s.
        needed: whether a page is open; without one nothing is read.
        close: called by the thread when it ends.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], T],
        first: T,
        *,
        every_s: float,
        needed: Callable[[], bool],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._read = read
        self._every_s = every_s
        self._needed = needed
        self._close = close
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.answer = first
        self.error: str | None = None
        self.answered_ms: int | None = None
        """Time of the last successful reading, Unix time, ms."""
        self.version = 0
        """Grows with every reading."""
        self.reading = False
        """Whether the thread reads now."""

    def start(self) -> None:
        """Read now, and periodically."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._wake.set()

    def stop(self) -> None:
        """Stop reading; a reading that waits for a server may last a few seconds longer."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def silence(self, now_ms: int, after_ms: int) -> str | None:
        """A sentence if the last successful reading is older than that and none has failed since: the server hangs."""
        if self.answered_ms is None or self.error is not None or now_ms - self.answered_ms <= after_ms:
            return None
        return f"no answer for {(now_ms - self.answered_ms) // 1000} s"

    def _run(self) -> None:
        try:
            self._go_on()
        finally:
            self._close()

    def _go_on(self) -> None:
        while True:
            self._wake.clear()
            if self._stop.is_set():
                return
            self.reading = self._needed()
            if not self.reading:
                self._wake.wait()
                continue
            began = time.monotonic()
            try:
                self.answer = self._read()
                self.error, self.answered_ms = None, time.time_ns() // 1_000_000
            except Exception as error:
                if not is_transient_for_reader(error):
                    logger.exception("%s: a bug", self._name)
                self.error = next(iter(str(error).strip().splitlines()), type(error).__name__)
            self.version += 1
            self._wake.wait(max(0.05, self._every_s - (time.monotonic() - began)))
