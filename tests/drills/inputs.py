"""Drills about what comes in: garbage, repetitions, disorder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.drills.drill import Drill
from tests.drills.events import Mix

if TYPE_CHECKING:
    from tests.drills.drill import Run


def restarts(run: Run) -> None:
    """In turns a kill, a worker that leaves in order, and nothing."""
    for number in run.each_fault():
        worker = run.any_worker()
        if worker is None:
            continue
        if number % 2 == 0:
            run.fleet.leave(worker)
            run.count("a worker left, and another joined")
        else:
            run.fleet.kill(worker)
            run.count("killed at a random moment")


POISON = Drill(
    "poison",
    "one record in a hundred is garbage, of every kind in turn; workers are killed and restarted",
    restarts,
    faults=6,
    every_s=8.0,
    mix=Mix(garbage=0.01),
)
DUPLICATES = Drill(
    "duplicates",
    "one record in ten was sent before, also across kills and rebalances",
    restarts,
    faults=10,
    every_s=6.0,
    mix=Mix(repeated=0.1),
)
DISORDER = Drill(
    "disorder",
    "events are shuffled, late by minutes and hours, or ahead of the clock; workers are killed and restarted",
    restarts,
    faults=6,
    every_s=8.0,
    mix=Mix(late=0.03, very_late=0.02, ahead=0.02, disorder_ms=8_000),
)
