"""Drills in which workers die, come and go, or freeze."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.sinks.failpoints import POINTS
from tests.drills.drill import Drill
from tests.drills.events import Mix

if TYPE_CHECKING:
    from tests.drills.drill import Run
    from tests.drills.fleet import Worker

WORKS_LIMIT_S = 120.0
ROLLING_SHARE_S = 600.0
"""During a rolling restart records come at the rate at which all would take this long, s."""

POINT_LIMIT_S = 6.0
"""A failpoint that nobody comes to for this long (nothing to revise, no alert) is tried again later, s."""


def kill(run: Run) -> None:
    """Kill -9: at each failpoint once, the others at random times."""
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


def rebalance(run: Run) -> None:
    """All are restarted, one after the other; then workers leave in order and join, one always stays."""
    rolling_restart(run)
    for number in run.each_fault():
        absent = [worker for worker in run.fleet.workers if not worker.wanted]
        staying = [worker for worker in run.fleet.running() if worker.wanted]
        if absent and (number % 2 or len(staying) <= 1):
            run.chance.choice(absent).wanted = True
            run.count("a worker joined")
        elif len(staying) > 1:
            worker = run.chance.choice(staying)
            worker.wanted = False
            run.fleet.leave(worker)
            run.count("a worker left")


def rolling_restart(run: Run) -> None:
    """Restart every worker, each when the one before it works again; notes the longest gap."""
    run.traffic.steady(run.plan.events / ROLLING_SHARE_S)
    _works(run, run.fleet.workers)
    run.watch.mark()
    for worker in run.fleet.workers:
        run.fleet.leave(worker)
        run.until(lambda worker=worker: not worker.leaving and worker.running, WORKS_LIMIT_S)  # type: ignore[misc]
        if not _works(run, [worker]):
            run.found(f"worker {worker.number} was not ready within {WORKS_LIMIT_S:g} s of its restart")
        run.count("a worker restarted in the rolling restart")
    run.facts["rolling_restart_gap_s"] = round(run.watch.seen.marked_stall_s, 1)
    run.traffic.share(0)


def _works(run: Run, workers: list[Worker]) -> bool:
    """Wait until these workers say that they are ready, as a rolling restart should."""
    return run.until(lambda: all(run.fleet.ready(worker) for worker in workers), WORKS_LIMIT_S)


def zombie(run: Run) -> None:
    """Freeze workers for longer than their session, at random moments and in the middle of their work."""
    points = [point for point in POINTS if point not in ("assigned", "offsets_committed")]
    run.chance.shuffle(points)
    # With the transaction open, and in the middle of evaluating: these must be among the few of a short run.
    points.sort(key=lambda point: point not in ("uncommitted", "windows_evaluated"))
    for number in run.each_fault():
        point = points[number % len(points)] if number % 4 != 3 else ""
        worker = _frozen_at(run, point) if point else None
        if worker is None:
            worker = run.any_worker()
            if worker is None:
                continue
            run.fleet.freeze(worker)
            run.count("frozen at a random moment")
        run.wait(run.plan.session_s * run.chance.uniform(1.3, 2.0))
        run.fleet.thaw(worker)


def _frozen_at(run: Run, point: str) -> Worker | None:
    """The worker that came to the point and froze there; None if none came."""
    run.fleet.arm("stop", point)
    taken: list[Worker] = []

    def came() -> bool:
        worker = run.fleet.taken("stop", point)
        if worker is not None:
            taken.append(worker)
        return bool(taken)

    if run.until(came, POINT_LIMIT_S + 2 * run.plan.window_s) or (
        not run.fleet.disarm("stop", point) and run.until(came, 1.0)
    ):
        run.count(f"frozen at {point}")
        return taken[0]
    return None


REBALANCE = Drill(
    "rebalance", "all workers are restarted one after the other, and then they leave and join", rebalance, faults=24
)
ZOMBIE = Drill(
    "zombie",
    "workers freeze for longer than their session, at any step of their work, and go on as if nothing had happened",
    zombie,
    faults=10,
    every_s=3.0,
    mix=Mix(late=0.01),
    all_declared=True,
)
KILL = Drill(
    "kill",
    "workers are killed with SIGKILL, also between any two steps of their work",
    kill,
    faults=28,
    short_faults=3,
    mix=Mix(late=0.01),
    all_declared=True,
)
