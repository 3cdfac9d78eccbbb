"""How large a drill is, and which times its workers run with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

FULL_EVENTS = 300_000
SHORT_EVENTS = 4_000
FEWEST_PEOPLE = 100
EVENTS_PER_PERSON = 100
"""Records for each of those who are in the middle of a sign-up at a time: about an event a second, at any length."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of a drill.

    Attributes:
        seed: decides the events and when which fault happens to whom.
        events: records that are produced, garbage and repetitions included.
        workers: worker processes.
        partitions: of the events topic.
        faults: how many; None: what the drill does at this length.
        is_short: whether the drill's short number of faults is meant then.
        window_s: length of a window, s.
        session_s: a silent worker loses its partitions after this, s.
        disorder_s: how far the watermark stays behind, s.
        session_window_s: of the declared funnel, s. Some visits are longer, and some people return later.
        duplicate_horizon_s: with two session windows much less than the drill takes: a worker reads only so much again.
        idle_s: a partition with nothing unread is idle after this, s.
        pace: factor on every pause between faults.
        idle_limit_s: the pipeline must have dealt with everything this long after the last fault, s.
    """

    seed: int = 1
    events: int = FULL_EVENTS
    workers: int = 3
    partitions: int = 6
    faults: int | None = None
    is_short: bool = False
    window_s: int = 10
    session_s: float = 6.0
    disorder_s: float = 2.0
    session_window_s: float = 10.0
    duplicate_horizon_s: float = 40.0
    idle_s: float = 2.0
    pace: float = 1.0
    idle_limit_s: float = 180.0

    @property
    def window_ms(self) -> int:
        """Length of a window, ms."""
        return self.window_s * 1000

    @property
    def session_window_ms(self) -> int:
        """The session window, ms."""
        return round(self.session_window_s * 1000)

    @property
    def people(self) -> int:
        """How many are in the middle of a sign-up at a time."""
        return max(FEWEST_PEOPLE, self.events // EVENTS_PER_PERSON)

    @property
    def repeat_within_ms(self) -> int:
        """No record is sent again later than this, half of the duplicate horizon, ms."""
        return round(self.duplicate_horizon_s * 500)

    def settings(self) -> dict[str, Any]:
        """The settings of workers that follow from it."""
        return {
            "window_s": self.window_s,
            "session_timeout_s": self.session_s,
            "duplicate_horizon_s": self.duplicate_horizon_s,
            "allowed_disorder_s": self.disorder_s,
            "idle_timeout_s": self.idle_s,
            "late_settle_s": self.window_s / 5,
            "topic_partitions": self.partitions,
            "web_port": 0,
        }


def short(plan: Plan) -> Plan:
    """The same with short times, for a run of some seconds."""
    return replace(
        plan,
        events=SHORT_EVENTS,
        workers=2,
        partitions=4,
        is_short=True,
        window_s=1,
        session_s=2.0,
        disorder_s=0.3,
        session_window_s=3.0,
        duplicate_horizon_s=6.0,
        idle_s=0.7,
        pace=0.3,
        idle_limit_s=180.0,
    )
