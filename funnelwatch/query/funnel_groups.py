"""The steps of a funnel of sessions, with their shares: pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from funnelwatch.sinks.timescale.wilson import wilson_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from funnelwatch.sinks.timescale.session_counts import Reached


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """One step of a funnel, for one group of sessions.

    Attributes:
        step: its name.
        reached: how many sessions reached it in order.
        completed: how many of them completed it.
        open: how many of those that reached it are younger than the session window.
        first: how many reached the first step.
        previous: how many reached the step before; None for the first.
        following: how many reached the next step; for the last, how many completed it.
    """

    step: str
    reached: int
    completed: int
    open: int
    first: int
    previous: int | None
    following: int

    @property
    def of_first(self) -> float | None:
        """The share of those that entered the funnel."""
        return share(self.reached, self.first)

    @property
    def of_previous(self) -> float | None:
        """The share of those that reached the step before; None for the first."""
        return None if self.previous is None else share(self.reached, self.previous)

    @property
    def dropped(self) -> int | None:
        """How many did not reach the next step, or complete the last; None where more did than reached this one."""
        return self.reached - self.following if self.following <= self.reached else None


@dataclass(frozen=True, slots=True)
class FunnelGroup:
    """The sessions that entered a funnel with some values of dimensions.

    Attributes:
        dimensions: the values at entry; empty where a series has none.
        steps: every step, in order.
    """

    dimensions: Mapping[str, str]
    steps: Sequence[FunnelStep]

    @property
    def entered(self) -> int:
        """How many sessions entered."""
        return self.steps[0].reached

    @property
    def completed(self) -> int:
        """How many of them completed the last step."""
        return self.steps[-1].completed

    @property
    def open(self) -> int:
        """How many of them are younger than the session window."""
        return self.steps[0].open

    @property
    def rate(self) -> float | None:
        """Conversion from entry to the end; None where nobody entered."""
        return share(self.completed, self.entered)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the rate (Wilson); None where there is no rate."""
        return None if self.rate is None else wilson_interval(self.completed, self.entered)


def share(part: int, whole: int) -> float | None:
    """The part of a whole; None where there is nothing, or the part is no part of it."""
    return part / whole if 0 <= part <= whole and whole else None


def grouped(
    steps: Sequence[str], found: Iterable[Reached], young: Iterable[Reached], by: Sequence[str]
) -> list[FunnelGroup]:
    """Groups of sessions, the one with most entries first; without ``by`` one group, also where nobody entered.

    Args:
        steps: of the funnel, in order; steps that are not among them are left out.
        found: the sessions of the range, by step and group.
        young: those of them that are younger than the session window.
        by: the dimensions to group by.
    """
    counts: dict[tuple[str, ...], dict[str, Reached]] = defaultdict(dict)
    if not by:
        counts[()] = {}
    for one in found:
        if one.step in steps:
            counts[tuple(one.dimensions.values())][one.step] = one
    open_ones = {(tuple(one.dimensions.values()), one.step): one.reached for one in young}
    groups = []
    for values, by_step in counts.items():
        numbers = [by_step[step].reached if step in by_step else 0 for step in steps]
        done = [by_step[step].completed if step in by_step else 0 for step in steps]
        rows = [
            FunnelStep(
                step,
                numbers[at],
                done[at],
                # The newest may have come between both queries.
                min(numbers[at], open_ones.get((values, step), 0)),
                numbers[0],
                numbers[at - 1] if at else None,
                numbers[at + 1] if at + 1 < len(steps) else done[at],
            )
            for at, step in enumerate(steps)
        ]
        groups.append(FunnelGroup(dict(zip(by, values, strict=True)), rows))
    return sorted(groups, key=lambda group: (-group.entered, *group.dimensions.values()))
