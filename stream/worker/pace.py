"""How often to look: often while events come, seldom once none has come for a while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.schemas.settings import Settings

RESTS = 1 / 6
"""Where no events come, rounds are this part of a window apart, and at most ``SLOWEST_S``."""

SLOWEST_S = 10.0
"""However long a window is: the monitor of the pipeline must look at least every 30 s to see what stands still."""


class Pace:
    """The pause between two rounds.

    Args:
        counted: how many events were counted so far.
        quick_s: the pause while events come, s.
        slow_s: the pause later, s.
        quiet_after_s: later is this long after the last event, s.
        monotonic_s: the clock.
    """

    def __init__(
        self,
        counted: Callable[[], int],
        quick_s: float,
        slow_s: float,
        quiet_after_s: float,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._count = counted
        self._quick_s, self._slow_s, self._quiet_after_s = quick_s, slow_s, quiet_after_s
        self._monotonic_s = monotonic_s
        self._counted = counted()
        self._moved_s = monotonic_s()

    @classmethod
    def of(cls, settings: Settings, counted: Callable[[], int], quick_s: float) -> Pace:
        """The pace of rounds that bring what events have changed: the windows of the last events are closed quickly.

        Of several workers those that have events are quick, for all of them. Heartbeats keep their interval.
        """
        slow_s = min(settings.window_s * RESTS, SLOWEST_S, settings.watchdog_every_s or SLOWEST_S)
        quiet_after_s = settings.window_s + settings.idle_timeout_s + settings.allowed_disorder_s
        return cls(counted, quick_s, max(quick_s, slow_s), quiet_after_s)

    def pause_s(self) -> float:
        """How long to wait now, s."""
        now_s, counted = self._monotonic_s(), self._count()
        if counted != self._counted:
            self._counted, self._moved_s = counted, now_s
        return self._slow_s if now_s - self._moved_s > self._quiet_after_s else self._quick_s
