"""How long a dashboard's queries take over many counts: ``python -m tests.bench.dashboard_queries --help``.

It makes a database of its own on the server that it is given, fills it with thirty days of counts a minute, brings the
rollups up to date, prints the sizes of the tables, asks the questions of a dashboard that shows all thirty days, and
drops the database again.
"""

from __future__ import annotations

import time
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import click
from psycopg.types.json import Jsonb

from funnelwatch.schemas.counts import Series
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.declared import declare
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.migrations import has_timescale, migrate
from funnelwatch.sinks.timescale.series import series_ids
from tests.stack import drop_database, make_database

if TYPE_CHECKING:
    from collections.abc import Iterator

DAYS = 30
WINDOW_MS = 60_000
STEPS = ("INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE", "INPUT_NAME", "INPUT_PASSWORD")

FILL = """
INSERT INTO window_counts (
    window_start, series_id, impressions, successes, failures, cohort_successes, cohort_failures,
    d44, d46, d48, d49, d50, d52
)
SELECT w, s.series_id, 100, 80, 10, 81, 11, 10, 15, 20, 15, 10, 10
FROM generate_series(%(start)s::timestamptz, %(start)s::timestamptz + interval '1439 minutes', '1 minute') AS w,
    unnest(%(ids)s::integer[]) AS s (series_id)
WHERE w <= now() AND (extract(epoch FROM w)::bigint / 60 + s.series_id) %% %(every)s = 0
"""

QUESTION = """
SELECT start, step, dimensions, successes::double precision / nullif(impressions, 0) AS rate
FROM counts_of(
    %(level)s, 'sign_up', date_trunc('day', now()) - %(back)s::interval, now(), %(every)s::interval, %(chosen)s, %(by)s
)
"""
ONE_STEP = {"step": ["VERIFY_SMS_CODE"]}
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("30 days, all steps, by the hour", {"level": "1h", "every": "1 hour"}),
    ("30 days, all steps, by the day", {"level": "1d", "every": "1 day"}),
    ("30 days, all steps by every dimension", {"level": "1d", "by": ["os", "browser", "app_version"]}),
    ("30 days, one step by os, by the hour", {"level": "1h", "every": "1 hour", "chosen": ONE_STEP, "by": ["os"]}),
    ("30 days, one step by os, by 5 minutes", {"level": "5m", "every": "5 minutes", "chosen": ONE_STEP, "by": ["os"]}),
    ("30 days, one step by os, by window", {"every": "1 minute", "chosen": ONE_STEP, "by": ["os"]}),
    ("today, one step by os, by window", {"back": "0", "every": "1 minute", "chosen": ONE_STEP, "by": ["os"]}),
]
UNSAID = {"level": "windows", "back": "30 days", "every": None, "chosen": {}, "by": []}


@click.command()
@click.option("--url", help="A server whose user may make databases: postgresql://…/postgres; without: one of our own.")
@click.option("--rows", default=10_000_000, show_default=True, help="Rows of counts, about.")
@click.option(
    "--series", default=240, show_default=True, help="Series, about; with many, each has few windows an hour."
)
@click.option("--tries", default=5, show_default=True, help="Times that each question is asked; the median is told.")
def main(url: str, rows: int, series: int, tries: int) -> None:
    """Fill a database with thirty days of counts and time a dashboard's queries on it."""
    versions = max(1, round(series / (len(STEPS) * 4 * 3)))
    every = max(1, round(DAYS * 1440 * versions * len(STEPS) * 4 * 3 / rows))
    name = f"bench_{uuid.uuid4().hex[:8]}"
    own = make_database(url, name, timescaledb=False)
    try:
        with closing(Database(own)) as database:
            for line in run(database, versions, every, tries):
                click.echo(line)
    finally:
        drop_database(url, name)


def run(database: Database, versions: int, every: int, tries: int) -> Iterator[str]:
    """Fill, materialize and ask; what to print."""
    migrate(database, WINDOW_MS)
    declare(database, {"sign_up": STEPS})
    wanted = {
        Series.of("sign_up", step, os=f"os {os}", browser=f"browser {browser}", app_version=f"5.{version}")
        for step in STEPS
        for os in range(1, 5)
        for browser in range(1, 4)
        for version in range(1, versions + 1)
    }
    with database.transaction() as cursor:
        ids = sorted(series_ids(cursor, wanted).values())
    begun = time.monotonic()
    today = int(time.time()) // 86_400 * 86_400
    for day in reversed(range(DAYS + 1)):
        start = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(today - day * 86_400))
        values = {"start": start, "ids": ids, "every": every}
        with database.transaction() as cursor:
            cursor.execute(FILL, values)
        click.echo(f"\rfilling: {DAYS - day + 1} of {DAYS + 1} days", nl=False, err=True)
    click.echo(err=True)
    filled = time.monotonic() - begun
    with database.transaction() as cursor:
        extended = has_timescale(cursor)
    begun = time.monotonic()
    materialize(database, time.time_ns() // 1_000_000)
    materialized = time.monotonic() - begun
    if extended:
        ask(
            database, "SELECT compress_chunk(c) FROM show_chunks('window_counts', older_than => interval '8 days') AS c"
        )
    ask(database, "VACUUM ANALYZE")
    [(counted, version)] = ask(database, "SELECT count(*), version() FROM window_counts")
    server = ("TimescaleDB on " if extended else "") + version.split(" on ")[0]
    yield f"{len(ids):,} series, {counted:,} rows of window_counts, {server}"
    yield f"filled in {filled:.0f} s, rollups materialized in {materialized:.0f} s"
    for table in ("window_counts", "rollup_5m", "rollup_1h", "rollup_1d"):
        size = f"{'hypertable_size' if extended else 'pg_total_relation_size'}('{table}')"
        [(number, total)] = ask(database, f"SELECT count(*), {size}::bigint FROM {table}")
        packed = ", compressed but for the last 8 days" if extended and table == "window_counts" else ""
        yield f"{table}: {number:,} rows, {total / 1e6:,.0f} MB, {total / max(1, number):.0f} bytes a row{packed}"
    for text, asked in QUESTIONS:
        times = []
        parameters = {**UNSAID, **asked}
        parameters["chosen"] = Jsonb(parameters["chosen"])
        for _ in range(tries):
            begun = time.monotonic()
            found = ask(database, QUESTION, parameters)
            times.append(time.monotonic() - begun)
        yield f"{text}: {sorted(times)[tries // 2] * 1000:,.0f} ms ({len(found):,} rows)"


def ask(database: Database, statement: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """The rows of a statement, outside a transaction."""
    with database.outside_transaction() as cursor:
        cursor.execute(cast("Any", statement), parameters)
        return [tuple(row.values()) for row in cursor.fetchall()] if cursor.description else []


if __name__ == "__main__":
    main()
