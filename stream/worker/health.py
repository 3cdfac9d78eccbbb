"""Whether a worker gets on: a process that lives and does nothing is not healthy.

A partition stands still when it has unread records and its position has not moved. Pure: positions and ends of the
logs are handed in, with the time at which they were true; the clock is an argument of ``Health``.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Name = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True, slots=True)
class _Position:
    position: int
    since: float


class Standstill:
    """How long partitions have had something unread without being read on.

    Args:
        after_s: from then on it is a problem, s.
    """

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._positions: dict[Name, _Position] = {}
        self._now = 0.0
        self._known = False

    def update(self, now: float, places: Mapping[Name, tuple[int, int]]) -> None:
        """Note where this worker's partitions are.

        Args:
            now: monotonic time, s.
            places: position (the next offset to be read) and end of the log, of every partition that the worker has.
                One that is missing is forgotten: it was given away, or its end is not known.
        """
        self._now, self._known = now, True
        positions: dict[Name, _Position] = {}
        for name, (position, end) in places.items():
            if position >= end:
                continue
            before = self._positions.get(name)
            positions[name] = before if before and before.position == position else _Position(position, now)
        self._positions = positions

    def unknown(self) -> None:
        """Note that the ends of the logs are not known: a broker is away, and a standstill has a reason."""
        self._positions = {}
        self._known = False

    def longest_at(self, now: float) -> float:
        """The longest standstill by the last update, at this monotonic time, s; NaN where it is not known."""
        if not self._known:
            return math.nan
        return max((now - one.since for one in self._positions.values()), default=0.0)

    @property
    def longest_s(self) -> float:
        """The longest standstill at the last update, s."""
        return max((self._now - one.since for one in self._positions.values()), default=0.0)

    def problem(self) -> str | None:
        """A partition that stands still for too long, in a sentence; None if none does."""
        late = {
            name: self._now - one.since
            for name, one in self._positions.items()
            if self._now - one.since > self._after_s
        }
        if not late:
            return None
        (topic, partition), longest = max(late.items(), key=lambda item: item[1])
        more = f", and {len(late) - 1} more" if len(late) > 1 else ""
        return f"partition {partition} of {topic}{more}: unread records, and nothing was read for {longest:.0f} s"


class DeadClient:
    """Notices a client of Kafka that does not come back although Kafka is there.

    librdkafka can lose all its brokers for good when Kafka, just started, answers that it has none
    (github.com/confluentinc/librdkafka/issues/5301); nothing but a new client helps then.

    Args:
        after_s: from then on it is dead, s.
    """

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._silent_since: dict[str, float] = {}

    def check(self, now: float, silent: Iterable[str], kafka_answers: Callable[[], bool]) -> str | None:
        """The dead client, in a sentence; None: all answer.

        Args:
            now: monotonic time, s.
            silent: names of the clients that did not answer just now.
            kafka_answers: whether a client that is made for the question gets an answer; asked only if need be.
        """
        names = set(silent)
        if names and not kafka_answers():
            names = set()
        self._silent_since = {name: self._silent_since.get(name, now) for name in names}
        dead = sorted(name for name, since in self._silent_since.items() if now - since >= self._after_s)
        return f"the client of Kafka for {', '.join(dead)} does not come back, and Kafka is there" if dead else None


class Health:
    """Whether a worker works, and when it must end so that its supervisor starts another.

    Args:
        after_s: something to do and nothing done for this long is a problem, s.
        exit_after_s: a standstill for which no server is to blame ends the worker after this long, s.
        ready_after_s: partitions that have not changed for this long are settled, s.
        monotonic: the clock, s.
    """

    def __init__(
        self,
        after_s: float,
        exit_after_s: float,
        ready_after_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._after_s = after_s
        self._exit_after_s = exit_after_s
        self._ready_after_s = ready_after_s
        self._monotonic = monotonic
        self._busy: dict[str, float] = {}
        self._fetched: float | None = None
        self.standstill = Standstill(after_s)

    def begin(self, what: str) -> None:
        """Note that work begins: "counting", "validation". It may have to wait for a server."""
        self._busy[what] = self._monotonic()

    def end(self, what: str) -> None:
        """Note that it is done."""
        self._busy.pop(what, None)

    def fetching(self) -> None:
        """The intake is about to ask Kafka."""
        self._fetched = self._monotonic()

    def problem(self, stopped: Iterable[str], *, away: bool = False) -> str | None:
        """The problem, in a sentence; None: there is none.

        Args:
            stopped: of each partition that cannot go on without a person, why.
            away: whether a server is unreachable: then a restart cannot help.
        """
        now = self._monotonic()
        for what, since in list(self._busy.items()):
            if now - since > self._after_s and not away:
                return f"{what} has waited for {now - since:.0f} s"
        if self._fetched is not None and now - self._fetched > self._after_s and not away:
            return (
                f"the intake has not come back from Kafka or from starting a partition for {now - self._fetched:.0f} s"
            )
        return self.standstill.problem() or "; ".join(stopped) or None

    def must_exit(self) -> str | None:
        """Why the worker must end: it reads nothing, and waits for nothing either; None if it need not."""
        waits = any(self._monotonic() - since > 1 for since in self._busy.values())
        return self.standstill.problem() if not waits and self.standstill.longest_s > self._exit_after_s else None

    def unready(self, changed_s: float | None, stopped: Iterable[str]) -> str | None:
        """Why the worker does not do its part yet; None if it does.

        Args:
            changed_s: monotonic time at which its partitions changed last; None before the first time.
            stopped: see ``problem``.
        """
        if changed_s is None:
            return "it has not joined its group yet"
        if self._monotonic() - changed_s < self._ready_after_s:
            return "its partitions have just changed"
        return self.problem(stopped)
