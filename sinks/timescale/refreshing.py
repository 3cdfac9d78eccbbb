"""Rollups with TimescaleDB: schedules the jobs that refresh them, and refreshes them on demand.

A refresh recomputes each changed bucket from the source level of the rollup. Where that level has been dropped for its
age, this would replace counts by the remaining ones. So no refresh begins before the latest moment before which the
source was ever dropped (``retention.dropped_before``), however long it is kept now. The offset of a job counts from the
time of its run, and that moment stands still: workers move the offset back day by day (``follow_dropped``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg

from funnelwatch.schemas.times import DAY_MS, HOUR_MS
from funnelwatch.sinks.errors import BusyError
from funnelwatch.sinks.timescale.database import run
from funnelwatch.sinks.timescale.migrations import has_timescale

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from psycopg import Cursor

    from funnelwatch.sinks.timescale.database import Database, Row

FIRST_MS: Final = -(2**53) // DAY_MS * DAY_MS
"""Before every event."""

ROLLED_UP: Final = ("counts", "durations")
"""The tables that have rollups; the name of a rollup adds ``_`` and its level."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """The schedule of a rollup's refresh; a query adds the newest counts, which the refresh leaves out.

    Attributes:
        source: the level from which it is computed.
        end_offset: distance of its end from now.
        every: its period.
        width_ms: length of a bucket, ms.
        piece_ms: span of one call, ms; whole buckets.
        least_days: fewest days: the extension requires two buckets before ``end_offset``.
    """

    source: str
    end_offset: str
    every: str
    width_ms: int
    piece_ms: int
    least_days: int = 1


REFRESHES: Final[Mapping[str, Refresh]] = {
    "5m": Refresh("windows", "1 hour", "5 minutes", HOUR_MS // 12, 14 * DAY_MS),
    "1h": Refresh("5m", "3 hours", "15 minutes", HOUR_MS, 56 * DAY_MS),
    "1d": Refresh("1h", "2 days", "1 hour", DAY_MS, 364 * DAY_MS, least_days=4),
}
"""As migrations 010 and 016 schedule them, finest first."""


PAUSE_S: Final = 2.0
"""Pause between two attempts while another refresh runs, s."""


class RefreshBusyError(BusyError):
    """Another refresh of the rollup has not ended in time."""

    def __init__(self, relation: str, limit_s: float) -> None:
        super().__init__(
            f"{relation} has been refreshed by another session, probably by a job of the database, for more than "
            f"{limit_s / 60:g} min. Refreshed buckets stay refreshed: run this again later. "
            "timescaledb_information.job_stats shows which job runs"
        )


@dataclass(frozen=True, slots=True)
class RefreshWait:
    """How a refresh waits for another one.

    Attributes:
        limit_s: longest wait for one rollup, s.
        report: called with lines about the progress and the wait.
        sleep: waits for so many seconds.
        clock: a monotonic clock, s.
    """

    limit_s: float = 600.0
    report: Callable[[str], None] = lambda _: None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


DEFAULT_WAIT: Final = RefreshWait()


def schedule_refreshes(cursor: Cursor[Row], sources: Collection[str], *, anew: bool) -> None:
    """Let the jobs of all rollups of some levels begin where those levels are complete.

    Args:
        cursor: within a transaction.
        sources: the levels.
        anew: end running refreshes, which began elsewhere.
    """
    days = {row["level"]: row["from_days"] for row in run(cursor, "refresh_days")}
    jobs = {row["relation"]: row for row in run(cursor, "refresh_jobs")}
    for level, plan in REFRESHES.items():
        if plan.source in sources:
            from_days = days[plan.source]
            for what in ROLLED_UP:
                relation = f"{what}_{level}"
                job = None if anew else jobs.get(relation)
                _schedule(cursor, relation, plan, from_days, job)


def _schedule(cursor: Cursor[Row], relation: str, plan: Refresh, from_days: int | None, job: Row | None) -> None:
    possible = from_days is None or from_days >= plan.least_days
    if job is None or not possible:
        run(cursor, "unschedule_refresh", {"relation": relation})
        if possible:
            parameters = {
                "relation": relation,
                "from_days": from_days,
                "end_offset": plan.end_offset,
                "every": plan.every,
            }
            run(cursor, "schedule_refresh", parameters)
    elif job["from_days"] != from_days:
        run(cursor, "move_refresh", {"job_id": job["job_id"], "from_days": from_days})


def follow_dropped(database: Database) -> None:
    """With TimescaleDB: let refreshes begin as early as they may; does nothing while another session does so."""
    with database.transaction() as cursor:
        if has_timescale(cursor) and run(cursor, "lock_archive")[0]["locked"]:
            run(cursor, "lock_migrations")  # no other session changes the retention between reading and scheduling
            schedule_refreshes(cursor, {plan.source for plan in REFRESHES.values()}, anew=False)


def refresh_rollups(database: Database, wait: RefreshWait = DEFAULT_WAIT) -> None:
    """With TimescaleDB: materialize changed buckets of all rollups, piece by piece.

    A job may be refreshing the same rollup. Depending on its version, the extension then waits, rejects the call
    (``lock_not_available``) or reports that nothing is left to do. So this waits for the job, and retries a rejection.

    Raises:
        RefreshBusyError: another refresh has taken longer than ``wait`` allows.
        psycopg.Error: the database rejected something else or went away; refreshed buckets stay refreshed.
    """
    for level, plan in REFRESHES.items():
        for what in ROLLED_UP:
            relation, source = f"{what}_{level}", _relation(what, plan.source)
            _wait_for_job(database, relation, wait)
            first = database.query("first_chunk", {"relation": source})[0]["first_ms"]
            start, end = _bounds(database, plan)
            found = list(pieces(start, end, first, plan))
            for number, piece in enumerate(found, 1):
                wait.report(f"refreshing {relation}" + (f", piece {number} of {len(found)}" if number > 1 else ""))
                # Buckets whose source is dropped meanwhile must not be recomputed either.
                whole_from, _ = _bounds(database, plan)
                begin, until = max(piece[0] or FIRST_MS, _up(whole_from or FIRST_MS, plan.width_ms)), piece[1]
                if begin < until:
                    bounds = {"start_ms": None if begin == FIRST_MS else begin, "end_ms": until}
                    _refresh(database, {"relation": relation, **bounds}, wait)


def _wait_for_job(database: Database, relation: str, wait: RefreshWait) -> None:
    since = wait.clock()
    while database.query("refresh_runs", {"relation": relation}):
        if wait.clock() - since > wait.limit_s:
            raise RefreshBusyError(relation, wait.limit_s)
        wait.report(f"a job of the database is refreshing {relation}: waiting for it")
        wait.sleep(PAUSE_S)


def _refresh(database: Database, parameters: Mapping[str, Any], wait: RefreshWait) -> None:
    since = wait.clock()
    while True:
        try:
            with database.outside_transaction() as cursor:
                run(cursor, "refresh", parameters)
        except psycopg.Error as error:
            if not is_busy(error):
                raise
            if wait.clock() - since > wait.limit_s:
                raise RefreshBusyError(parameters["relation"], wait.limit_s) from error
            wait.report(f"{parameters['relation']} is being refreshed by another session: waiting ({error.sqlstate})")
            wait.sleep(PAUSE_S)
        else:
            return


def is_busy(error: psycopg.Error) -> bool:
    """Whether another session blocked a refresh; narrower than ``is_transient``: an outage is reported at once."""
    busy = psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure
    # Two sessions that write the same row of the extension's catalog: an internal error, known by its words only.
    return isinstance(error, busy) or "tuple concurrently" in str(error)


def _up(ms: int, width_ms: int) -> int:
    return ms + -ms % width_ms


def _relation(what: str, level: str) -> str:
    return f"window_{what}" if level == "windows" else f"{what}_{level}"


def _bounds(database: Database, plan: Refresh) -> tuple[int | None, int]:
    row = database.query("refresh_range", {"source": plan.source, "end_offset": plan.end_offset})[0]
    return row["start_ms"], row["end_ms"]


def pieces(start: int | None, end: int, first: int | None, plan: Refresh) -> Iterator[tuple[int | None, int]]:
    """A range of a rollup as pieces, oldest first, each of whole buckets; all in ms.

    Args:
        start: where it begins; None: at the beginning.
        end: where it ends, exclusive.
        first: where the source begins; None: nowhere.
        plan: of the rollup.
    """
    end -= end % plan.width_ms
    if start is not None:
        start = _up(start, plan.width_ms)
        if start >= end:
            return
    begin, oldest = start, start if start is not None else first
    if oldest is not None:
        oldest = max(oldest, first if first is not None else oldest)
        for border in range(oldest - oldest % plan.piece_ms + plan.piece_ms, end, plan.piece_ms):
            yield begin, border
            begin = border
    yield begin, end
