"""Rollups with TimescaleDB: the jobs that refresh them, and refreshing them now.

A refresh makes each bucket that has changed anew from the level that the rollup is made of. Where that level has been
dropped for its age, this would replace counts by what is left of them. So no refresh begins before the moment before
which the source was ever dropped (``retention.dropped_before``), however long it is kept now. The offset of a job
counts from the time of its run, and that moment stands still: workers move the offset back day by day
(``follow_dropped``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg

from funnelwatch.sinks.errors import BusyError
from funnelwatch.sinks.timescale.database import run
from funnelwatch.sinks.timescale.migrations import has_timescale

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from psycopg import Cursor

    from funnelwatch.sinks.timescale.database import Database, Row

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
FIRST_MS: Final = -(2**53) // DAY_MS * DAY_MS
"""Before every event."""

ROLLED_UP: Final = ("counts", "durations")
"""Of what there are rollups; followed by ``_`` and a level these are their names."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """When a rollup is refreshed, and up to where: what is still being counted is left to be added at each query.

    Attributes:
        source: the level that it is made of.
        end_offset: how far from now it ends.
        every: how often.
        width_ms: length of a bucket, ms.
        piece_ms: how much is refreshed by one call, ms; whole buckets.
        least_days: fewer days cannot be refreshed: the extension wants two buckets before ``end_offset``.
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
"""Between two tries while another refresh is in the way, s."""


class RefreshBusyError(BusyError):
    """Another refresh of the rollup did not end."""

    def __init__(self, relation: str, limit_s: float) -> None:
        super().__init__(
            f"{relation} has been refreshed by another session, probably by a job of the database, for more than "
            f"{limit_s / 60:g} min. What was refreshed so far stays so: run this again later. "
            "timescaledb_information.job_stats shows which job runs"
        )


@dataclass(frozen=True, slots=True)
class Patience:
    """How a refresh waits for another one.

    Attributes:
        limit_s: for one rollup it waits no longer than this, s.
        tell: called with what is done and waited for.
        sleep: waits, s.
        clock: a clock that never goes back, s.
    """

    limit_s: float = 600.0
    tell: Callable[[str], None] = lambda _: None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


DEFAULT_PATIENCE: Final = Patience()


def schedule_refreshes(cursor: Cursor[Row], sources: Collection[str], *, anew: bool) -> None:
    """Let the jobs of all rollups that are made of some levels begin where those are whole.

    Args:
        cursor: within a transaction.
        sources: the levels.
        anew: end refreshes that are under way, which began elsewhere.
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
    """With TimescaleDB: let refreshes begin as early as they may by now. Does nothing otherwise, or if another does."""
    with database.transaction() as cursor:
        if has_timescale(cursor) and run(cursor, "lock_archive")[0]["locked"]:
            run(cursor, "lock_migrations")  # nobody changes what is kept between reading and scheduling
            schedule_refreshes(cursor, {plan.source for plan in REFRESHES.values()}, anew=False)


def refresh_rollups(database: Database, retry_policy: Patience = DEFAULT_PATIENCE) -> None:
    """With TimescaleDB: materialize what has changed of all rollups, piece by piece.

    A job may be refreshing the same rollup. The extension then waits, rejects (``lock_not_available``) or says that
    nothing is left to do, by its version; so the job is waited for, and a rejection is tried again.

    Raises:
        RefreshBusyError: another refresh has kept this one off for longer than ``retry_policy`` allows.
        psycopg.Error: the database rejected something else or went away; what is done stays done.
    """
    for level, plan in REFRESHES.items():
        for what in ROLLED_UP:
            relation, source = f"{what}_{level}", _relation(what, plan.source)
            _wait_for_job(database, relation, retry_policy)
            first = database.query("first_chunk", {"relation": source})[0]["first_ms"]
            start, end = _bounds(database, plan)
            found = list(pieces(start, end, first, plan))
            for number, piece in enumerate(found, 1):
                retry_policy.tell(
                    f"refreshing {relation}" + (f", piece {number} of {len(found)}" if number > 1 else "")
                )
                # What is dropped meanwhile must not be made anew either.
                whole_from, _ = _bounds(database, plan)
                begin, until = max(piece[0] or FIRST_MS, _up(whole_from or FIRST_MS, plan.width_ms)), piece[1]
                if begin < until:
                    bounds = {"start_ms": None if begin == FIRST_MS else begin, "end_ms": until}
                    _refresh(database, {"relation": relation, **bounds}, retry_policy)


def _wait_for_job(database: Database, relation: str, retry_policy: Patience) -> None:
    since = retry_policy.clock()
    while database.query("refresh_runs", {"relation": relation}):
        if retry_policy.clock() - since > retry_policy.limit_s:
            raise RefreshBusyError(relation, retry_policy.limit_s)
        retry_policy.tell(f"a job of the database is refreshing {relation}: waiting for it")
        retry_policy.sleep(PAUSE_S)


def _refresh(database: Database, parameters: Mapping[str, Any], retry_policy: Patience) -> None:
    since = retry_policy.clock()
    while True:
        try:
            with database.outside_transaction() as cursor:
                run(cursor, "refresh", parameters)
        except psycopg.Error as error:
            if not is_busy(error):
                raise
            if retry_policy.clock() - since > retry_policy.limit_s:
                raise RefreshBusyError(parameters["relation"], retry_policy.limit_s) from error
            retry_policy.tell(
                f"{parameters['relation']} is being refreshed by somebody else: waiting ({error.sqlstate})"
            )
            retry_policy.sleep(PAUSE_S)
        else:
            return


def is_busy(error: psycopg.Error) -> bool:
    """Whether another session was in the way of a refresh, so that the same may work a moment later."""
    busy = psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure
    # Two that write the same row of the extension's catalog: an internal error, told by its words only.
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
