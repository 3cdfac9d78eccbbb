"""Drills in which workers die, come and go, or freeze."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.drills.drill import Drill
from stream.faults import POINTS

if TYPE_CHECKING:
    from funnelwatch.drills.drill import Run

POINT_LIMIT_S = 6.0
"""A fault point that nobody comes to for this long (nothing to revise, no alert) is tried again later, s."""


def kill(run: Run) -> None:
    """Kill -9: at each fault point once, the others at random times."""
    points = list(POINTS)
    run.chance.shuffle(points)
    for number in run.each_fault():
        # Every other kill is at a point until all have had theirs; what nobody came to goes to the end of the line.
        if points and (number % 2 == 0 or len(points) >= run.faults - number):
            point = points.pop(0)
            if _at_point(run, point):
                continue
            points.append(point)
        if (worker := run.any_worker()) is not None:
            run.fleet.kill(worker)
            run.count("killed at a random moment")
    run.facts["points_not_reached"] = sorted(points)


def _at_point(run: Run, point: str) -> bool:
    """Whether a worker came to the point and died there."""
    run.fleet.arm("kill", point)
    if point == "assigned" and (worker := run.any_worker()) is not None:
        # Somebody must be given something.
        run.fleet.kill(worker)
        run.count("killed at a random moment")
    limit = POINT_LIMIT_S + 2 * run.plan.window_s
    if run.until(lambda: run.fleet.taken("kill", point) is not None, limit) or not run.fleet.disarm("kill", point):
        run.count(f"killed at {point}")
        return True
    return False


KILL = Drill("kill", "workers are killed with SIGKILL, also between any two steps of their work", kill, faults=28)
