"""Whether invented names slow a declared funnel down: ``make bench-flood``, ``make bench-flood ARGS="--seconds 20"``.

A worker counts a steady load of a declared funnel. Then one request to the HTTP collector after the other has events
with thousands of invented names in it: funnels; steps of a funnel that is not declared; steps and app versions of the
declared one. Each is followed for a while, and in the end the worker is started anew. All should stay as it was:

* the delay of the declared funnel's detection: from the end of a window, and the allowed disorder, until the database
  has that the window is evaluated;
* the worker's memory;
* the number of series that the Prometheus exporter shows of the declared funnel; those of all funnels have a limit, and
  what may exist of undeclared ones as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

import click
import psutil

from funnelwatch.producers.collector.keys import hash_of
from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.funnels import load_funnels
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.exporter.collector import BY, FunnelCollector
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.totals import TotalsStore
from tests.bench.report import circumstances, write
from tests.bench.speed.__main__ import own_topics
from tests.bench.speed.topic import STEPS
from tests.collector import KEY, Collector, collector
from tests.stack import Servers, drop_database, make_database, servers, wait_until
from tests.worker import ROOT, Worker, worker

NAMES = 5_000
RATE = 500
LOOK_S = 0.05
MAX_SERIES = 1_000
"""As many as the exporter shows by default."""
SLOWER, MORE_MB, MORE_SERIES = 1.0, 60, 10
"""Tolerated: so many seconds on the median delay, megabytes, and series of the exporter."""
EVALUATED = """
SELECT (extract(epoch FROM last_window) * 1000)::bigint AS at FROM detector_progress WHERE funnel = 'sign_up'
"""
COUNTED = "SELECT coalesce(sum(accepted + rejected + duplicates), 0)::bigint AS n FROM stream_progress WHERE topic = %s"
REJECTED = "SELECT coalesce(sum(rejected), 0)::bigint AS n FROM stream_progress WHERE topic = %s"
STORED = "SELECT count(*) AS n, count(DISTINCT funnel) AS funnels FROM series"
FUNNELS = """
funnels:
  sign_up:
    steps: [{steps}]
"""


def event(funnel: str, step: str, version: str) -> dict[str, Any]:
    """An impression of now, small enough that thousands fit into a request."""
    return {
        "funnel": funnel,
        "step": step,
        "sign_up_session_id": uuid.uuid4().hex,
        "os": "iOS",
        "app_version": version,
        "phase": "IMPRESSION",
        "ts": time.time_ns() // 1_000_000,
    }


def floods(count: int) -> dict[str, list[dict[str, Any]]]:
    """Each flood by what it is, as the events of one request."""
    return {
        "invented funnels": [event(f"invented {number}", "A", "1") for number in range(count)],
        "invented steps of an undeclared funnel": [event("another", f"step {number}", "1") for number in range(count)],
        "invented steps of the declared funnel": [event("sign_up", f"step {number}", "1") for number in range(count)],
        "invented app versions of the declared funnel": [
            event("sign_up", STEPS[0], f"0.{number}") for number in range(count)
        ],
    }


class Delays:
    """Follows how far the declared funnel is evaluated, on a thread, until it is closed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.seen: list[tuple[float, float]] = []
        """When a new window was evaluated, s, and how long after it was due, s."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        settings, last = self._settings, 0
        due_ms = settings.window_ms + settings.allowed_disorder_s * 1000
        with closing(Database(settings.timescale_url)) as database:
            while not self._over.wait(LOOK_S):
                at = ask(database, EVALUATED).get("at") or 0
                if at > last:
                    now = time.time()
                    self.seen.append((now, now - (at + due_ms) / 1000))
                    last = at

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def since(self, begin: float) -> dict[str, Any]:
        """The delays seen since then."""
        found = sorted(delay for at, delay in self.seen if at >= begin)
        middle = round(found[len(found) // 2], 2) if found else None
        return {"windows": len(found), "delay_s": middle, "delay_max_s": round(found[-1], 2) if found else None}


def ask(database: Database, statement: str, *parameters: Any) -> dict[str, Any]:
    """The one row of a statement; empty where there is none."""
    with database.outside_transaction() as cursor:
        cursor.execute(cast("Any", statement), parameters or None)
        return next(iter(cursor.fetchall()), {})


class Bench:
    """What is measured at one moment, with the worker that it is about."""

    def __init__(self, settings: Settings, database: Database, running: Worker, delays: Delays) -> None:
        self._settings = settings
        self._database = database
        self.worker = running
        self._delays = delays

    def measure(self, what: str, begin: float, **more: Any) -> dict[str, Any]:
        """The figures of a phase that began then."""
        process = psutil.Process(self.worker.pid)
        rejected = ask(self._database, REJECTED, self._settings.events_topic)["n"]
        stored = ask(self._database, STORED)
        result = {
            "phase": what,
            **self._delays.since(begin),
            "memory_mb": round(process.memory_info().rss / 1e6),
            "cpu_s": round(sum(process.cpu_times()[:2]), 1),
            **self._exported(),
            "stored_series": stored["n"],
            "stored_funnels": stored["funnels"],
            "rejected": rejected,
            **more,
        }
        click.echo(json.dumps(result), err=True)
        return result

    def flood(self, what: str, events: list[dict[str, Any]], entry: Collector, seconds: float) -> list[dict[str, Any]]:
        """Send one request; the figures until all of it is counted or rejected and a while longer, and after it."""
        topic = self._settings.events_topic
        begin, before = time.time(), ask(self._database, COUNTED, topic)["n"]
        reply = entry.send(events)
        # The collector itself rejects steps that a declared funnel has not.
        passed = reply.json["accepted"]
        wait_until(lambda: ask(self._database, COUNTED, topic)["n"] >= before + passed, "the flood is read", 300)
        took = round(time.time() - begin, 2)
        time.sleep(seconds)
        during = self.measure(f"{what}: during", begin, passed=passed, read_s=took)
        begin = time.time()
        time.sleep(seconds)
        return [during, self.measure(f"{what}: after", begin)]

    def restart(self, seconds: float) -> dict[str, Any]:
        """Stop the worker and start it; the figures after a while."""
        assert self.worker.stop() == 0, self.worker.text()[-2_000:]
        begin = time.time()
        self.worker.start()
        due_ms = self._settings.window_ms + self._settings.allowed_disorder_s * 1000

        def caught_up() -> bool:
            at = ask(self._database, EVALUATED).get("at") or 0
            return bool((at + due_ms) / 1000 > begin)

        wait_until(caught_up, "the worker evaluates again", 300)
        took, begin = round(time.time() - begin, 2), time.time()
        time.sleep(seconds)
        return self.measure("after a restart", begin, caught_up_s=took)

    def _exported(self) -> dict[str, int]:
        """Series that the Prometheus exporter shows with its defaults: of the declared funnel, and all."""
        totals = TotalsStore(self._database, self._settings.events_topic)
        declared = load_funnels(self._settings.funnels_path)
        collector = FunnelCollector(lambda: totals.read(60.0, BY), lambda _: False, MAX_SERIES, declared=declared)
        samples = [sample for family in collector.collect() for sample in family.samples]
        own = sum(sample.labels.get("funnel") == "sign_up" for sample in samples)
        return {"exporter_series": own, "exporter_all": len(samples)}


def run(running: Servers, seconds: float, count: int) -> list[dict[str, Any]]:
    """All phases, with topics and a database of their own."""
    unique = f"flood_{uuid.uuid4().hex[:12]}"
    url = make_database(running.timescale_url, unique, timescaledb=running.timescaledb)
    with tempfile.TemporaryDirectory(prefix="funnelwatch-bench-") as name, ExitStack() as stack:
        stack.callback(drop_database, running.timescale_url, unique)
        folder = Path(name)
        (folder / "funnels.yml").write_text(FUNNELS.format(steps=", ".join(STEPS)))
        settings = Settings(
            kafka_bootstrap_servers=running.kafka_bootstrap_servers,
            kafka_config=running.kafka_config,
            redis_url=running.redis_url,
            timescale_url=url,
            redis_prefix=unique,
            consumer_group=unique,
            topic_partitions=4,
            window_s=5,
            allowed_disorder_s=2.0,
            funnels_path=folder / "funnels.yml",
            data_dir=folder,
            session_timeout_s=6.0,
            web_port=0,
            collector_keys=f"bench:{hash_of(KEY)}",
            collector_max_body_bytes=4_000_000,
            collector_key_rate=0,
            **own_topics(unique),  # type: ignore[arg-type]
        )
        ensure_topics(settings)
        entry = stack.enter_context(collector(settings, folder / "collector.log"))
        counting = stack.enter_context(worker(settings)).wait_assigned()
        given = {"properties": settings.kafka(), "topic": settings.events_topic, "rate": RATE}
        load = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.load", json.dumps(given)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        stack.callback(end, load)
        database = stack.enter_context(closing(Database(url)))
        # It is one of the few that may exist, before the others take all places.
        entry.send([event("another", "A", "1")])
        wait_until(lambda: ask(database, EVALUATED), "the declared funnel is evaluated", 120)
        delays = Delays(settings)
        stack.callback(delays.close)
        bench = Bench(settings, database, counting, delays)
        begin = time.time()
        time.sleep(2 * seconds)
        results = [bench.measure("before", begin)]
        results.append(bench.restart(seconds) | {"phase": "before, after a restart"})
        for what, events in floods(count).items():
            results += bench.flood(what, events, entry, seconds)
        results.append(bench.restart(seconds))
    return results


def end(load: subprocess.Popen[bytes]) -> None:
    """End the load."""
    load.kill()
    load.communicate()


def grown(results: list[dict[str, Any]]) -> list[str]:
    """Sentences on what did not stay where it was; the invented versions within their limit may be shown as series."""
    before, restarted = results[:2]
    found = []
    for one in results[2:]:
        start = restarted if "read_s" not in one and one["phase"].startswith("after a restart") else before
        for figure, more in (("delay_s", SLOWER), ("memory_mb", MORE_MB), ("exporter_series", MORE_SERIES)):
            if one[figure] is None or one[figure] > start[figure] + more:
                found.append(f"{one['phase']}: {figure} {start[figure]} -> {one[figure]}")
    return found


def table(results: list[dict[str, Any]]) -> str:
    """The figures for a person."""
    lines = [f"{'':<54}{'delay s':>9}{'max':>7}{'MB':>6}{'exporter':>10}{'all':>7}{'series':>8}{'rejected':>10}"]
    lines += [
        f"{one['phase']:<54}{one['delay_s']!s:>9}{one['delay_max_s']!s:>7}{one['memory_mb']:>6}"
        f"{one['exporter_series']:>10,}{one['exporter_all']:>7,}{one['stored_series']:>8,}{one['rejected']:>10,}"
        for one in results
    ]
    return "\n".join(lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--seconds", default=30.0, show_default=True, help="How long each phase is followed.")
@click.option("--names", default=NAMES, show_default=True, help="Invented names in a request.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures into this file.")
def main(seconds: float, names: int, json_path: Path | None) -> None:
    """A declared funnel before, during and after requests with thousands of invented names."""
    with servers() as running:
        report = circumstances("bench-flood", running) | {"names": names, "events_per_second": RATE}
        results = run(running, seconds, names)
    click.echo(table(results))
    found = grown(results)
    write(json_path, {**report, "results": results, "grown": found})
    if found:
        raise click.ClickException("; ".join(found))


if __name__ == "__main__":
    main()
