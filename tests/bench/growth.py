"""What throughput and memory do as things grow: ``make bench-growth``, ``make bench-growth ARGS="--only series"``.

A worker with everything on counts a backlog, and one thing is made larger at a time: the series, the windows that the
events are spread over (lateness), the partitions, the backlog itself, the workers, and what the database holds already.
A backlog is the worst case for memory, since whatever has bounds fills up to them.
"""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.settings import Settings
from tests.bench.history import fill_history
from tests.bench.report import circumstances, write
from tests.bench.speed.__main__ import one_run, own_topics
from tests.bench.speed.contenders import Took, ours
from tests.bench.speed.topic import fill
from tests.fake_registry import fake_registry
from tests.stack import servers
from tests.traffic import admin

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.contenders.work import Key
    from tests.stack import Servers

YEAR_DAYS = 365
A_YEAR = "a year"
QUICK_DAYS = 2


@dataclass(frozen=True)
class Backlog:
    """The events of a topic.

    Attributes:
        series: about so many occur.
        windows: so many they are spread over.
        partitions: so many the topic has.
        times: so many times the events of the others.
    """

    series: int = 100
    windows: int = 5
    partitions: int = 4
    times: float = 1


@dataclass(frozen=True)
class Case:
    """One backlog, who counts it, and whether the database has a year of counts before."""

    what: str
    backlog: Backlog = Backlog()
    workers: int = 1
    history: bool = False


LARGE = Backlog(times=10)
FEW = Backlog(series=20)
# Those with the same backlog stand together: it is produced once.
CASES = (
    Case("100 series, 5 windows, 4 partitions"),
    Case("1,000 series", Backlog(series=1_000)),
    Case("10,000 series", Backlog(series=10_000)),
    Case("100,000 series", Backlog(series=100_000, times=0.3)),
    Case("1 window", Backlog(windows=1)),
    Case("100 windows", Backlog(windows=100)),
    Case("1,000 windows", Backlog(windows=1_000)),
    Case("1 partition", Backlog(partitions=1)),
    Case("12 partitions", Backlog(partitions=12)),
    Case("10 times the backlog", LARGE),
    Case("10 times the backlog, 2 workers", LARGE, workers=2),
    Case("20 series, no history", FEW),
    Case(f"20 series, {A_YEAR} of history", FEW, history=True),
)


class Bench:
    """Produces backlogs and has them counted."""

    def __init__(self, running: Servers, plain: Settings, events: int, history_days: int) -> None:
        self._running = running
        self._plain = plain
        self._events = events
        self._history_days = history_days
        self._topic = ""
        self._filled: tuple[Backlog, dict[Key, int]] | None = None

    def run(self, case: Case) -> dict[str, Any]:
        """What one case takes."""
        plain, expected = self._backlog(case.backlog)
        count = sum(expected.values())
        history: dict[str, int] = {}

        def prepare(settings: Settings) -> None:
            if case.history:
                end_ms = min(key[0] for key in expected)
                began = time.monotonic()
                history["rows"] = fill_history(settings, end_ms, self._history_days, case.backlog.series)
                click.echo(f"{history['rows']:,} rows of history in {time.monotonic() - began:.0f} s", err=True)

        run: Callable[..., Took] = partial(ours, workers=case.workers)
        took = one_run(self._running, plain, run, (case.what, self._topic, count), expected, prepare=prepare)
        measured = count - took.before
        days = self._history_days
        what = case.what if days == YEAR_DAYS else case.what.replace(A_YEAR, f"{days} days")
        return {
            "case": what,
            "events": count,
            "workers": case.workers,
            "history_rows": history.get("rows", 0),
            # None: the backlog was too small for the second worker to have a part in it.
            "per_second": round(measured / took.seconds) if measured else None,
            "cpu_us": round(took.cpu_s / measured * 1e6, 2) if measured else None,
            "database_us": round(took.database_s / measured * 1e6, 2) if measured and took.database_s else None,
            "memory_mb": round(took.memory_mb),
        }

    def _backlog(self, backlog: Backlog) -> tuple[Settings, dict[Key, int]]:
        """Produce it, unless it is there from the case before; the settings, and what is to be counted."""
        plain = self._plain.model_copy(update={"topic_partitions": backlog.partitions})
        if self._filled and self._filled[0] == backlog:
            return plain, self._filled[1]
        self.clear()
        self._topic = f"growth-{uuid.uuid4().hex[:8]}"
        ensure_topics(plain.model_copy(update=own_topics(self._topic)))
        expected = fill(
            plain,
            {self._topic: int(self._events * backlog.times)},
            series=backlog.series,
            windows=backlog.windows,
            # Making an event takes longer than counting it. Each is there twice: a flush has as many series still.
            times=max(1, int(2 * backlog.times)),
        )[self._topic]
        self._filled = backlog, expected
        return plain, expected

    def clear(self) -> None:
        """Delete the backlog, so that disks do not fill up."""
        if self._filled:
            kafka = admin(self._plain)
            for deleted in kafka.delete_topics([self._topic]).values():
                deleted.result(30)
        self._filled = None


def shares(results: list[dict[str, Any]]) -> list[float | None]:
    """Events/s of each case as a share of those of the first of all cases; None where one of the two is not known."""
    first = next((one["per_second"] for one in results if one["case"] == CASES[0].what), None)
    return [one["per_second"] / first if first and one["per_second"] else None for one in results]


def table(results: list[dict[str, Any]]) -> str:
    """The figures for a person."""
    lines = [f"{'':<38}{'events':>12}{'events/s':>12}{'of first':>10}{'CPU µs':>8}{'database':>10}{'MB':>6}"]
    for one, of_first in zip(results, shares(results), strict=True):
        told = f"{one['per_second']:,}" if one["per_second"] else "too few"
        share = f"{of_first:.2f}" if of_first else ""
        lines.append(
            f"{one['case']:<38}{one['events']:>12,}{told:>12}{share:>10}{one['cpu_us'] or '':>8}"
            f"{one.get('database_us') or '':>10}{one['memory_mb']:>6}"
        )
    return "\n".join(lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--events", default=1_000_000, show_default=True, help="How many events a backlog has.")
@click.option("--only", multiple=True, help="Only cases whose name has this in it; may be given several times.")
@click.option("--history-days", default=YEAR_DAYS, show_default=True, help="How far the history goes back, days.")
@click.option("--quick", is_flag=True, help="5,000 events, 2 days of history: whether all is counted right, no more.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures into this file.")
def main(events: int, only: tuple[str, ...], history_days: int, quick: bool, json_path: Path | None) -> None:
    r"""Throughput and memory against the size of things. What is counted is compared with what was produced.

    \b
    Example:
        python -m tests.bench.growth --only workers --only history --events 300000
    """
    if quick:
        events, history_days = 5_000, QUICK_DAYS
    chosen = [case for case in CASES if not only or any(one in case.what for one in only)]
    if not chosen:
        raise click.UsageError(f"--only: no case has that in its name; there are: {', '.join(c.what for c in CASES)}")
    results = []
    with ExitStack() as stack:
        running = stack.enter_context(servers())
        registry = stack.enter_context(fake_registry())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="funnelwatch-bench-")))
        plain = Settings(
            funnel_max_series=200_000,
            funnel_max_values=200_000,
            kafka_bootstrap_servers=running.kafka_bootstrap_servers,
            kafka_config=running.kafka_config,
            redis_url=running.redis_url,
            schema_registry_url=registry.url,
            data_dir=folder,
        )
        report = circumstances("bench-growth", running)
        bench = Bench(running, plain, events, history_days)
        for case in chosen:
            began = time.monotonic()
            results.append(bench.run(case))
            click.echo(f"{json.dumps(results[-1])} in {time.monotonic() - began:.0f} s", err=True)
        bench.clear()
    click.echo(table(results))
    write(json_path, {**report, "results": results})


if __name__ == "__main__":
    main()
