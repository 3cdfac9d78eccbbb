"""How long a funnel's detector takes to start: ``make bench-detector-start``, or ``ARGS="--rows 500000"``.

A database of its own gets three weeks of windows of a minute, of many series with four dimensions; few series have most
of the events, as in an app with many releases and countries. The measured process then makes a detector as a worker
does: it reads that history, and evaluates the first window. Its time is told, its CPU time, that of the database's
process, and its memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil

from funnelwatch.alert_rules.loader import LiveRules
from funnelwatch.schemas.counts import ClosedWindow, CountRow, Series
from funnelwatch.schemas.funnels import DeclaredFunnels, Funnel
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.sinks.timescale.composites import YEAR_2000_MS
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.series import series_ids
from funnelwatch.sinks.timescale.series_counts import SeriesCounts
from funnelwatch.sinks.timescale.silences import SilenceStore
from funnelwatch.stream.detector.detection import Detection
from tests.bench.report import circumstances, write
from tests.stack import drop_database, make_database, servers

WINDOW_MS = 60_000
DAYS = 21
GOAL_S = 60.0
FUNNEL = "sign_up"
STEPS = ("INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE", "INPUT_NAME", "INPUT_PASSWORD")
VALUES = {"os": 4, "country": 25, "plan": 5, "app_version": 5}
"""So many values each dimension has, times the steps: 10,000 series; with another number of series, other releases."""
SKEW = 0.8
"""Series number n has a share of the records that is proportional to 1 / n ** SKEW."""
RECORD = np.dtype(
    [("columns", ">i2")]
    + [
        field
        for name, kind in (
            ("window_start", ">i8"), ("series_id", ">i4"), ("impressions", ">i4"), ("successes", ">i4"),
            ("failures", ">i4"), ("cohort_successes", ">i4"), ("cohort_failures", ">i4"),
        )
        for field in ((f"{name}_bytes", ">i4"), (name, kind))
    ]
)  # fmt: skip
"""A row as COPY has it in PostgreSQL's binary format."""


def series_of(count: int) -> list[Series]:
    """About so many series, in an order that says nothing about their dimensions."""
    versions = max(1, round(count / (len(STEPS) * 4 * 25 * 5)))
    found = [
        Series.of(
            FUNNEL, step, os=f"os {os}", country=f"country {country}", plan=f"plan {plan}", app_version=f"{version}"
        )
        for step in STEPS
        for os in range(VALUES["os"])
        for country in range(VALUES["country"])
        for plan in range(VALUES["plan"])
        for version in range(versions)
    ]
    return [found[place] for place in np.random.default_rng(1).permutation(len(found)).tolist()]


def fill(database: Database, series: list[Series], rows: int, end_ms: int) -> int:
    """Counts of about so many windows of these series, before a time; how many there are."""
    rng = np.random.default_rng(2)
    with database.transaction() as cursor:
        known = series_ids(cursor, set(series))
    numbers = np.array([known[one] for one in series])
    share = 1 / np.arange(1, len(series) + 1) ** SKEW
    low, high = 0.0, 1e9
    windows = DAYS * 1440
    for _ in range(100):
        scale = (low + high) / 2
        low, high = (scale, high) if np.minimum(1, share * scale).sum() * windows < rows else (low, scale)
    chance = np.minimum(1, share * scale)
    made = 0
    for day in range(DAYS):
        present = rng.random((1440, len(series)), dtype=np.float32) < chance
        at, place = np.nonzero(present)
        record = np.zeros(len(at), RECORD)
        record["columns"] = 7
        for name in RECORD.names[1::2]:
            column = name.removesuffix("_bytes")
            record[name] = RECORD.fields[column][0].itemsize
        shown = 1 + rng.poisson(20 * chance[place])
        passed = rng.binomial(shown, 0.8)
        record["window_start"] = (end_ms - (DAYS - day) * 86_400_000 - YEAR_2000_MS + at * WINDOW_MS) * 1000
        record["series_id"], record["impressions"] = numbers[place], shown
        record["successes"] = record["cohort_successes"] = passed
        record["failures"] = record["cohort_failures"] = shown - passed
        with (
            database.transaction() as cursor,
            cursor.copy(
                "COPY window_counts (window_start, series_id, impressions, successes, failures, cohort_successes, "
                "cohort_failures) FROM STDIN (FORMAT binary)"
            ) as copy,
        ):
            copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
            copy.write(record.tobytes())
            copy.write(b"\xff\xff")
        made += len(record)
        click.echo(f"\rfilling: {day + 1} of {DAYS} days", nl=False, err=True)
    click.echo(err=True)
    return made


def measure(url: str, end_ms: int) -> dict[str, float]:
    """In a process of its own: make the detector, and evaluate the first window with a record of every series."""
    began, cpu = time.monotonic(), time.process_time()
    declared = DeclaredFunnels({FUNNEL: Funnel(STEPS, tuple(VALUES))})
    with closing(Database(url)) as database:
        detection = Detection(
            settings=Settings(window_s=WINDOW_MS // 1000),
            rules=LiveRules(None),
            counts=SeriesCounts(database),
            alerts=AlertStore(database),
            silences=SilenceStore(database),
            registry=None,
            declared=declared,
        )
        with database.outside_transaction() as cursor:
            [backend] = cursor.execute("SELECT pg_backend_pid() AS pid").fetchall()
            known = cursor.execute("SELECT step, dimensions FROM series").fetchall()
        counts = {Series.of(FUNNEL, row["step"], **row["dimensions"]): CountRow(20, 16, 4, 16, 4) for row in known}
        server = psutil.Process(backend["pid"])
        before = sum(server.cpu_times()[:2])
        detection([ClosedWindow(FUNNEL, end_ms, end_ms + WINDOW_MS, 0, counts)])
        spent = sum(server.cpu_times()[:2]) - before
        first = time.monotonic() - began
        again = time.monotonic()
        detection([ClosedWindow(FUNNEL, end_ms + WINDOW_MS, end_ms + 2 * WINDOW_MS, 0, counts)])
        second = time.monotonic() - again
    peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    return {
        "first_window_s": round(first, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "database_cpu_s": round(spent, 2),
        "next_window_s": round(second, 3),
        "memory_mb": round(psutil.Process().memory_info().rss / 1e6),
        "peak_mb": round(int(peak) / 1000),
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--series", default=10_000, show_default=True, help="How many series, about.")
@click.option("--rows", default=10_000_000, show_default=True, help="How many counts of a series in a window, about.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures into this file.")
@click.option("--measure", "measured", nargs=2, hidden=True, help="Database and end of the history, ms.")
def main(series: int, rows: int, json_path: Path | None, measured: tuple[str, str] | None) -> None:
    """The time until a detector with three weeks of history has evaluated its first window."""
    if measured:
        click.echo(json.dumps(measure(measured[0], int(measured[1]))))
        return
    end_ms = int(time.time()) // 86_400 * 86_400_000
    name = f"start_{uuid.uuid4().hex[:8]}"
    with servers() as running:
        report = circumstances("bench-detector-start", running)
        url = make_database(running.timescale_url, name, timescaledb=running.timescaledb)
        try:
            with closing(Database(url)) as database:
                migrate(database, WINDOW_MS)
                several = series_of(series)
                made = fill(database, several, rows, end_ms)
                with database.outside_transaction() as cursor:
                    cursor.execute("VACUUM ANALYZE")
            command = [sys.executable, "-m", "tests.bench.detector_start", "--measure", url, str(end_ms)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        finally:
            drop_database(running.timescale_url, name)
    result: dict[str, Any] = {"series": len(several), "rows": made, "days": DAYS, **json.loads(done.stdout)}
    click.echo(json.dumps(result))
    write(json_path, {**report, "results": [result]})
    if result["first_window_s"] > GOAL_S:
        raise click.ClickException(f"the goal is {GOAL_S:.0f} s")


if __name__ == "__main__":
    main()
