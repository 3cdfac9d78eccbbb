"""Rollups: materialized up to a moment, and exact to every statement.

Tables hold a level (5 minutes, 1 hour, 1 day) up to ``materialized_through``; its view sums later windows per query.
A transaction that changes a materialized bucket records that in ``rollup_invalidations``, and the view sums that bucket
too until it is materialized again. So every statement sees a level equal to its windows, also during or after an
interrupted materialization. Buckets whose source is dropped (``retention``) are final.

Nearly all events fall into buckets that are not materialized and need no invalidation. Before a materialization moves
on, flushes learn of it: ``materializing_through`` moves on while no flush is under way, as in closing. Invalidations
are only added: a materialization deletes those it sees, and reads the counts after that. A change that it does not see
has an invalidation that it does not see either, and that stays. A trigger notices writes that bypass all this, by hand
or from an older version, and invalidates everything that can be made again.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from funnelwatch.schemas.times import DAY_MS, HOUR_MS
from funnelwatch.sinks.timescale.database import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from psycopg import Cursor

    from funnelwatch.sinks.timescale.database import Database, Row


SETTLED_MS: Final = HOUR_MS
"""What began within this long before now is added up at each query: events still come for it."""

PIECE_MS: Final = {"5m": DAY_MS, "1h": 7 * DAY_MS, "1d": 28 * DAY_MS}
"""Level to how much of it is materialized in one transaction, at most, gaps aside: some hundred thousand rows."""


def materialize(database: Database, now_ms: int, go_on: Callable[[], bool] = lambda: True) -> int:
    """Materialize what has settled or changed, a piece a transaction.

    Args:
        database: whose rollups.
        now_ms: the wall clock, ms.
        go_on: asked between pieces; what is not done then is done by the next call.

    Returns:
        How many pieces were written by this call; another worker may be at it.
    """
    pieces = 0
    for level, width_ms in _announce(database, now_ms).items():
        for _ in chain(_advance(database, level), _renew(database, level, width_ms)):
            pieces += 1
            if not go_on():
                return pieces
    return pieces


def _announce(database: Database, now_ms: int) -> dict[str, int]:
    """Announce to flushes up to where windows will be materialized.

    Returns:
        Level to its width, ms, finest first; nothing while another session materializes.
    """
    with database.transaction() as cursor:
        rows = run(cursor, "lock_rollups", {"level": None})
        if len(rows) < len(PIECE_MS):
            return {}
        settled = run(cursor, "settled_through", {"before_ms": now_ms - SETTLED_MS})[0]["settled_ms"]
        targets = {row["level"]: settled - settled % row["width_ms"] for row in rows}
        ahead = [
            row["level"]
            for row in rows
            if row["materializing_ms"] is None or targets[row["level"]] > row["materializing_ms"]
        ]
        if ahead:
            run(cursor, "wait_for_flushes")
        for level in ahead:
            run(cursor, "start_materializing", {"level": level, "through_ms": targets[level]})
    return {row["level"]: row["width_ms"] for row in rows}


def _advance(database: Database, level: str) -> Iterator[None]:
    """Materialize a level as far as flushes know of, oldest first; one piece spans a gap, however long."""
    empty = False
    while True:
        with database.transaction() as cursor:
            rows = run(cursor, "lock_rollups", {"level": level})
            if not rows or rows[0]["materialized_ms"] == rows[0]["materializing_ms"]:
                return
            [row] = rows
            begin = row["materialized_ms"]
            if begin is None or empty:
                # The piece also has the buckets between: older ones if there should be any by now, or those of the gap.
                first = run(cursor, "first_counted", {"from_ms": begin})[0]["first_ms"]
                begin = row["materializing_ms"] if first is None else first - first % row["width_ms"]
            end = min(begin + PIECE_MS[level], row["materializing_ms"])
            empty = not _write(cursor, level, row["materialized_ms"], end)
            run(cursor, "finish_materializing", {"level": level, "through_ms": end})
        yield


def _renew(database: Database, level: str, width_ms: int) -> Iterator[None]:
    """Materialize again what has changed since."""
    changed = [row["window_ms"] for row in database.query("invalidated", {"level": level})]
    for begin, end in spans(changed, width_ms, PIECE_MS[level]):
        with database.transaction() as cursor:
            rows = run(cursor, "lock_rollups", {"level": level})
            if not rows or rows[0]["materialized_ms"] is None:
                return
            _write(cursor, level, begin, min(end, rows[0]["materialized_ms"]))
        yield


def _write(cursor: Cursor[Row], level: str, from_ms: int | None, to_ms: int) -> bool:
    """Write a level's buckets in ``[from_ms, to_ms)`` anew, except final ones: the source of those is gone.

    Returns:
        Whether any row was written.
    """
    run(cursor, "forget_invalidated", {"level": level, "from_ms": from_ms, "to_ms": to_ms})
    final = run(cursor, "final_before", {"level": level})[0]["final_ms"]
    begin = max((at for at in (from_ms, final) if at is not None), default=None)
    if begin is not None and begin >= to_ms:
        return False
    for query in (f"clear_{level}", f"materialize_{level}"):
        run(cursor, query, {"from_ms": begin, "to_ms": to_ms})
    return cursor.rowcount > 0


def spans(buckets: Iterable[int], width: int, longest: int) -> Iterator[tuple[int, int]]:
    """Ascending buckets as spans ``[begin, end)`` of neighbours, each hardly longer than ``longest``; all in ms."""
    begin = end = None
    for bucket in buckets:
        if begin is None or end is None or bucket > end or bucket - begin >= longest:
            if begin is not None and end is not None:
                yield begin, end
            begin = bucket
        end = bucket + width
    if begin is not None and end is not None:
        yield begin, end
