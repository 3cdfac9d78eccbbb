"""How long a dashboard's queries take over many counts: ``make bench-queries``.

It makes a database of its own on a server that it starts or is given, fills it with thirty days of counts a minute,
brings the rollups up to date, prints the sizes of the tables, asks the questions of a dashboard of all thirty days, and
drops the database again.
"""

from __future__ import annotations

import platform
import sys
import time
import uuid
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import psutil
from psycopg.types.json import Jsonb

from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.funnels import Funnel
from funnelwatch.schemas.times import DAY_MS
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.declared import declare
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.migrations import has_timescale, migrate
from funnelwatch.sinks.timescale.rates import RateStore, Scope
from funnelwatch.sinks.timescale.series import series_ids
from funnelwatch.sinks.timescale.timers import timers
from tests import extension
from tests.bench.report import command, machine, write
from tests.stack import drop_database, make_database, servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

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
EVERY = ["os", "browser", "app_version"]
ONE_STEP = {"step": ["VERIFY_SMS_CODE"]}
PANELS: list[tuple[str, dict[str, Any]]] = [
    ("panel: 30 days, all steps, by the hour", {"level": "1h", "every": "1 hour"}),
    ("panel: 30 days, all steps, by the day", {"level": "1d", "every": "1 day"}),
    ("panel: 30 days, all steps by every dimension, one span", {"level": "1h", "by": EVERY}),
    (
        "panel: 30 days, one step by os, by the hour",
        {"level": "1h", "every": "1 hour", "chosen": ONE_STEP, "by": ["os"]},
    ),
    ("panel: 30 days, one step by os, by the day", {"level": "1d", "every": "1 day", "chosen": ONE_STEP, "by": ["os"]}),
    ("panel: today, one step by os, by window", {"back": "0", "every": "1 minute", "chosen": ONE_STEP, "by": ["os"]}),
]
"""What the panels of the dashboards ask, at the level that is chosen there."""
UNSAID = {"level": "windows", "back": "30 days", "every": None, "chosen": {}, "by": []}


def questions(database: Database) -> Iterator[tuple[str, Callable[[], Sequence[Any]]]]:
    """Each by what it is: those of the command line, the API and the board, and those of Grafana's panels."""
    now_ms = time.time_ns() // 60_000_000_000 * 60_000
    begin, scope = now_ms - DAYS * DAY_MS + 7 * 60_000, Scope("sign_up")
    store = RateStore(database)
    for by in ([], ["os"], ["app_version"], ["os", "browser"], EVERY):
        named = ",".join(by) or "nothing"
        yield f"rate --since 30d --by {named}", partial(store.rates, scope, begin, now_ms, by=by)
        yield f"timers --since 30d --by {named}", partial(timers, database, scope, begin, now_ms, by=by)
    some = Scope("sign_up", {"os": ["os 1"], "step": ["VERIFY_SMS_CODE"]})
    yield "rate --since 30d --by app_version --where os, step", partial(store.rates, some, begin, now_ms, by=EVERY[2:])
    days = now_ms - now_ms % DAY_MS - (DAYS - 1) * DAY_MS
    yield "rate --since 30d --every 1d --by os", partial(store.rates, scope, days, now_ms, by=["os"], every_ms=DAY_MS)
    yield "known series", store.known
    for text, asked in PANELS:
        parameters = {**UNSAID, **asked}
        parameters["chosen"] = Jsonb(parameters["chosen"])
        yield text, partial(ask, database, QUESTION, parameters)


@click.command()
@click.option("--url", help="A server whose user may make databases: postgresql://…/postgres; without: one of our own.")
@click.option("--rows", default=10_000_000, show_default=True, help="Rows of counts, about.")
@click.option(
    "--series", default=240, show_default=True, help="Series, about; with many, each has few windows an hour."
)
@click.option("--tries", default=5, show_default=True, help="Times that each question is asked; the median is told.")
@click.option("--timescaledb", is_flag=True, help="On a TimescaleDB, as the tests find one (tests/extension.py).")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures into this file.")
def main(*, url: str | None, rows: int, series: int, tries: int, timescaledb: bool, json_path: Path | None) -> None:
    """Fill a database with thirty days of counts and time a dashboard's queries on it."""
    versions = max(1, round(series / (len(STEPS) * 4 * 3)))
    every = max(1, round(DAYS * 1440 * versions * len(STEPS) * 4 * 3 / rows))
    results: list[dict[str, Any]] = []
    with ExitStack() as stack:
        database = stack.enter_context(_timescaledb() if timescaledb else _plain(url))
        for line in run(database, versions, every, tries, results):
            click.echo(line)
        [(version,)] = ask(database, "SELECT version()")
    report = {
        "machine": machine(),
        "command": command("bench-queries", sys.argv[1:]),
        "date": datetime.now(UTC).date().isoformat(),
        "database": version.split(" on ")[0],
        "versions": {"python": platform.python_version(), "funnelwatch": package_version("funnelwatch")},
    }
    write(json_path, {**report, "results": results})


@contextmanager
def _plain(url: str | None) -> Iterator[Database]:
    """A database of its own on this server, or on one that is started for it."""
    with ExitStack() as stack:
        server = url or stack.enter_context(servers()).timescale_url
        name = f"bench_{uuid.uuid4().hex[:8]}"
        own = make_database(server, name, timescaledb=False)
        stack.callback(drop_database, server, name)
        yield stack.enter_context(closing(Database(own)))


def _timescaledb() -> AbstractContextManager[Database]:
    """A TimescaleDB, as tests find one."""
    return extension.timescaledb(None)


def run(database: Database, versions: int, every: int, tries: int, results: list[dict[str, Any]]) -> Iterator[str]:
    """Fill, materialize and ask; what to print."""
    server = None
    migrate(database, WINDOW_MS)
    declare(database, {"sign_up": Funnel(STEPS)})
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
    with suppress(psutil.NoSuchProcess):  # the server may be on another machine, or have no processes
        [(pid,)] = ask(database, "SELECT pg_backend_pid()")
        server = psutil.Process(pid)
    for text, answer in questions(database):
        times, found = [], 0
        used = sum(server.cpu_times()[:2]) if server else 0.0
        for _ in range(tries):
            begun = time.monotonic()
            found = len(answer())
            times.append(time.monotonic() - begun)
        cpu = (sum(server.cpu_times()[:2]) - used) / tries if server else None
        middle = sorted(times)[tries // 2]
        results.append(
            {"question": text, "ms": round(middle * 1000), "rows": found, "cpu_ms": cpu and round(cpu * 1000)}
        )
        told = "" if cpu is None else f", {cpu * 1000:,.0f} ms of the server's CPU"
        yield f"{text}: {middle * 1000:,.0f} ms ({found:,} rows{told})"


def ask(database: Database, statement: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """The rows of a statement, outside a transaction."""
    with database.outside_transaction() as cursor:
        cursor.execute(cast("Any", statement), parameters)
        return [tuple(row.values()) for row in cursor.fetchall()] if cursor.description else []


if __name__ == "__main__":
    main()
