"""A ledger of all that was ever counted, kept by the database beside the counts: levels are compared with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from funnelwatch.schemas.counts import CountRow
from funnelwatch.schemas.histogram import SLOTS
from funnelwatch.schemas.times import DAY_MS, HOUR_MS
from funnelwatch.sinks.timescale.retention import Retention, set_retention

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.sinks.timescale.database import Database, Row

WIDTHS_MS: Final = {"windows": 1, "5m": 300_000, "1h": HOUR_MS, "1d": DAY_MS}
COUNTS: Final = CountRow._fields
NUMBERS: Final = (*COUNTS, "slots")
VIEWS: Final = {"windows": "window_counts", "5m": "counts_5m", "1h": "counts_1h", "1d": "counts_1d"}

KEEP = """
CREATE TABLE ledger (
    window_start timestamptz, series_id integer, impressions bigint, successes bigint, failures bigint,
    cohort_successes bigint, cohort_failures bigint, sessions bigint, session_successes bigint, reached bigint,
    completed bigint, slots bigint
);
CREATE FUNCTION keep_ledger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND NOT (TG_OP = 'DELETE' AND current_setting('funnelwatch.counting', true) = 'on') THEN
        INSERT INTO ledger VALUES ({old});
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO ledger VALUES ({new});
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER keep_ledger AFTER INSERT OR UPDATE OR DELETE ON window_counts
FOR EACH ROW EXECUTE FUNCTION keep_ledger();
"""
"""Row by row, in the transaction that counts. Retention drops, which is no change to what was counted; a repair deletes
only rows that count nothing any more."""


def _slots(row: str = "") -> str:
    """All slots of a row as one number, to which each slot adds with a factor of its own."""
    return " + ".join(f"coalesce({row}d{slot}, 0)::bigint * {pow(7, slot + 1, 1_000_003)}" for slot in range(SLOTS))


def _entry(row: str, sign: str) -> str:
    numbers = [*(f"{row}.{name}" for name in COUNTS), f"({_slots(row + '.')})"]
    return f"{row}.window_start, {row}.series_id, {', '.join(sign + number for number in numbers)}"


def rows(database: Database, statement: str, *values: object) -> list[Row]:
    """What a statement returns."""
    with database.transaction() as cursor:
        cursor.execute(cast("Any", statement), values)
        return cursor.fetchall() if cursor.description else []


def begin_anew(database: Database) -> None:
    """Nothing is counted, materialized or dropped, and everything is kept; the ledger begins here."""
    set_retention(database, Retention())
    with database.transaction() as cursor:
        for table in ("window_counts", "rollup_5m", "rollup_1h", "rollup_1d", "rollup_invalidations"):
            cursor.execute(cast("Any", f"TRUNCATE {table}"))
        cursor.execute("UPDATE retention SET dropped_before = NULL")
        cursor.execute(
            "UPDATE rollup_progress SET materializing_through = '-infinity', materialized_through = '-infinity'"
        )
        cursor.execute("TRUNCATE funnel_progress")
        cursor.execute("SELECT to_regclass('ledger') AS ledger")
        if cursor.fetchall()[0]["ledger"] is None:
            cursor.execute(cast("Any", KEEP.format(old=_entry("OLD", "-"), new=_entry("NEW", ""))))
        cursor.execute("TRUNCATE ledger")


def disagreement(level: str) -> str:
    """A statement for the rows by which a level differs from the ledger, since what is dropped of it."""
    keys = f"date_bin('{WIDTHS_MS[level]} ms', window_start, '2000-01-01 00:00:00Z') AS window_start, series_id"
    sums = ", ".join(f"sum({name})::bigint AS {name}" for name in NUMBERS)
    columns = ", ".join(("window_start", "series_id", *NUMBERS))
    # Rows of the one count 1, of the other -1: a bucket that is there twice is a difference as well.
    return (
        f"SELECT {columns}, sum(side) AS surplus FROM ("
        f"SELECT window_start, series_id, {', '.join(COUNTS)}, {_slots()} AS slots, 1 AS side FROM {VIEWS[level]} "
        f"UNION ALL SELECT *, -1 FROM (SELECT {keys}, {sums} FROM ledger GROUP BY 1, 2) AS by_hand) AS sides "
        f"WHERE ({', '.join(NUMBERS)}) <> ({', '.join('0' for _ in NUMBERS)}) AND window_start >= coalesce("
        f"(SELECT dropped_before FROM retention WHERE level = '{level}'), '-infinity') "
        f"GROUP BY {columns} HAVING sum(side) <> 0"
    )


LOOKS = {level: disagreement(level) for level in VIEWS}


def agree(database: Database, after: object = None, levels: Sequence[str] = tuple(LOOKS)) -> None:
    """Every level shows what was counted; each is looked at in one statement, so at one moment."""
    for level in levels:
        assert rows(database, LOOKS[level]) == [], f"{level} after {after}"


def notes(database: Database) -> list[tuple[str, int]]:
    """Level and bucket of what is noted as changed."""
    return [
        (row["level"], int(row["window_start"].timestamp() * 1000))
        for row in rows(database, "SELECT * FROM rollup_invalidations ORDER BY level, window_start")
    ]
