"""Something that is looked at again and again, for all who watch it together."""

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
    """Calls ``look`` on a thread of its own while it is started, and keeps the last answer and the last fault.

    A look that fails leaves the answer as it was: the page shows its age. An error that is no outage is logged.

    Args:
        name: of the thread.
        look: gives the answer.
        first: the answer before the first look.
        every_s: the time between two looks, s.
        needed: whether anybody watches; while nobody does, nothing is looked at.
        close: called by the thread when it ends.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[], T],
        first: T,
        *,
        every_s: float,
        needed: Callable[[], bool],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._look = look
        self._every_s = every_s
        self._needed = needed
        self._close = close
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.answer = first
        self.fault: str | None = None
        self.answered_ms: int | None = None
        """When a look succeeded last, Unix time, ms."""
        self.version = 0
        """Grows with every look."""
        self.looking = False
        """Whether it goes on looking just now."""

    def start(self) -> None:
        """Look now, and again and again."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._wake.set()

    def stop(self) -> None:
        """Look no more; a look that waits for a server that is away may go on for a few seconds."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def silence(self, now_ms: int, after_ms: int) -> str | None:
        """A sentence if the last look that succeeded is older than that and none has failed since: the server hangs."""
        if self.answered_ms is None or self.fault is not None or now_ms - self.answered_ms <= after_ms:
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
            self.looking = self._needed()
            if not self.looking:
                self._wake.wait()
                continue
            began = time.monotonic()
            try:
                self.answer = self._look()
                self.fault, self.answered_ms = None, time.time_ns() // 1_000_000
            except Exception as error:
                if not is_transient_for_reader(error):
                    logger.exception("%s: a bug", self._name)
                self.fault = next(iter(str(error).strip().splitlines()), type(error).__name__)
            self.version += 1
            self._wake.wait(max(0.05, self._every_s - (time.monotonic() - began)))
