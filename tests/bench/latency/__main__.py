"""How soon an event can be seen, and how soon an alert is out: ``make bench-latency``.

While other processes produce events at an even rate, probes are produced here, twenty a second, dated now. A probe's
delay is from Kafka's acknowledgement until Redis, or TimescaleDB, shows as many probes in its window as there were
by then. Both are asked every few milliseconds, which is part of what is measured.

A closed window and an alert are due when the window has ended and the allowed disorder has passed::

    window       |───────────────|·······allowed disorder·······|─────── delay ───────>|
                 start           end                            due                    read by a consumer of the topic

The delay holds all that lies between: an event must come that moves the watermark of each partition so far, it must be
counted, the closer must close and publish, the detector evaluate, and publish the alert, and a subscriber read it. Some
series lose all their successes in one window and have them again in the next, so that each window has an alert of each.

The last rate is a share of the most that ``make bench`` has found. Where counting does not keep up with it, with load,
broker and databases on the same machine, lower ones are tried, and all are told.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import funnelwatch.alert_rules
from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.settings import Settings
from tests.bench.latency.delays import KEPT, Due, alert_delays, changes, slower, summary, throughput
from tests.bench.latency.probes import RULE, Probes, write_rule
from tests.bench.latency.topics import Watch
from tests.bench.load import processes_for
from tests.bench.report import circumstances, write
from tests.bench.speed.__main__ import OURS, own_topics
from tests.stack import drop_database, make_database, servers, wait_until
from tests.traffic import admin
from tests.worker import ROOT, worker

if TYPE_CHECKING:
    from tests.stack import Servers

RATES = (1_000, 20_000)
SHARE = 0.8
TRIES = 4
"""At most so many rates are tried to find one that counting keeps up with."""
WARM_S = 3.0
"""What is due this soon after the first events were counted is not measured."""
ENOUGH = 10_000
"""So many events, or those of a second, are the first ones."""
FLOWS_S = 60.0
"""Within this the first events have to be counted, and in the end, at a rate that is kept up with, all of them."""
SPEED = ROOT / "docs" / "benchmarks" / "speed.json"
SEEN_IN = {
    "redis": "event in Redis",
    "timescaledb": "event in the database",
    "closed window": "window on its topic",
    "alert": "alert on its topic",
}
"""What is measured at each rate, and what it is called."""


def most() -> float:
    """Events/s that ``make bench`` has found.

    Raises:
        click.UsageError: it has not been run.
    """
    if not SPEED.exists():
        raise click.UsageError("docs/benchmarks/speed.json is missing: run make bench first, or give --rate")
    found = json.loads(SPEED.read_text())["results"]
    return float(next(one["per_second"] for one in found if one["contender"] == OURS))


def measure(settings: Settings, rate: int, seconds: float) -> dict[str, Any]:
    """The delays at one rate; those of a rate that counting does not keep up with mean nothing, and are not shown."""
    ensure_topics(settings)
    with worker(settings) as running, ExitStack() as stack:
        running.wait_assigned()
        watch = Watch(settings)
        stack.callback(watch.close)
        loads = _loads(settings, rate)
        for load in loads:
            stack.callback(load.kill)
        # A broker that has just started is slow at first.
        wait_until(lambda: watch.samples and watch.samples[-1].counted >= min(rate, ENOUGH), "load is counted", FLOWS_S)
        began_s, began_ms = time.monotonic(), time.time() * 1000
        probes = Probes(settings)
        seen = probes.follow(WARM_S, seconds)
        made = sum(int(load.communicate(timeout=60)[0]) for load in loads)
        samples = [one for one in watch.samples if WARM_S <= one.at_s - began_s <= seconds]
        result = {**throughput(samples, rate), "load_processes": len(loads)}
        if result["kept_up"]:
            # What was due before the load ended is published meanwhile.
            wait_until(lambda: watch.samples[-1].counted >= made, "all is counted", FLOWS_S)
            time.sleep(1)
        stack.close()
    due = Due(int(settings.allowed_disorder_s * 1000), began_ms + WARM_S * 1000, began_ms + seconds * 1000)
    closed = [due.delay(one["window_end"], at) for one, at in watch.windows if one["revision"] == 0]
    seen["closed window"] = summary([delay for delay in closed if delay is not None])
    seen["alert"] = alert_delays(changes(probes.made), watch.alerts, RULE, settings.window_ms, due)
    return {**result, "seen": seen}


def _loads(settings: Settings, rate: int) -> list[subprocess.Popen[str]]:
    count = processes_for(rate)
    given = {"properties": settings.kafka(), "topic": settings.events_topic, "rate": rate // count}
    command = [sys.executable, "-m", "tests.bench.load", json.dumps(given)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(count)]


def at_rate(running: Servers, rate: int, seconds: float, window_s: int, disorder_s: float) -> dict[str, Any]:
    """The delays at one rate, with topics, a database and rules of its own."""
    unique = f"latency_{uuid.uuid4().hex[:12]}"
    url = make_database(running.timescale_url, unique, timescaledb=running.timescaledb)
    with tempfile.TemporaryDirectory(prefix="funnelwatch-bench-") as name:
        folder = Path(name)
        rules = folder / "rules"
        rules.mkdir()
        # Those that are shipped are evaluated as well.
        for file in Path(funnelwatch.alert_rules.__file__).parent.glob("*.yml"):
            shutil.copy(file, rules)
        write_rule(rules, window_s)
        settings = Settings(
            kafka_bootstrap_servers=running.kafka_bootstrap_servers,
            kafka_config=running.kafka_config,
            redis_url=running.redis_url,
            timescale_url=url,
            redis_prefix=unique,
            consumer_group=unique,
            topic_partitions=4,
            window_s=window_s,
            allowed_disorder_s=disorder_s,
            rules_path=rules,
            data_dir=folder,
            session_timeout_s=6.0,
            web_port=0,
            **own_topics(unique),  # type: ignore[arg-type]
        )
        try:
            found = measure(settings, rate, seconds)
        finally:
            drop_database(running.timescale_url, unique)
            kafka = admin(settings)
            for deleted in kafka.delete_topics([settings.events_topic]).values():
                deleted.result(30)
    click.echo(json.dumps(found), err=True)
    return found


def table(results: list[dict[str, Any]]) -> str:
    """The figures for a person."""
    lines = [f"{'events/s':>9}{'lag s':>7}  {'':<24}{'p50 ms':>8}{'p99 ms':>8}{'max ms':>8}{'of':>6}"]
    for one in results:
        rate = f"{one['reached']:>9,}{one['lag_s']:>7.2f}"
        if not one["kept_up"]:
            lines.append(
                f"{rate}  NOT KEPT UP WITH: the lag grew by {one['lag_grew_s']} s; {one['counted']:,}/s counted"
            )
            continue
        if one["reached"] < KEPT * one["asked"]:
            lines.append(f"{rate}  (asked for {one['asked']:,}: the load could not make more)")
        for name, title in SEEN_IN.items():
            told = one["seen"][name]
            figures = "".join(f"{'-' if told[key] is None else told[key]:>8}" for key in ("p50", "p99", "max"))
            missing = f"  {told['missing']} NOT SEEN" if told.get("missing") else ""
            lines.append(f"{rate}  {title:<24}{figures}{told['n']:>6}{missing}")
    return "\n".join(lines)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--rate", "rates", multiple=True, type=click.IntRange(1), help="Events/s; may be given several times.")
@click.option("--share", default=SHARE, show_default=True, help="Without --rate: the last rate, of the most.")
@click.option("--seconds", default=40.0, show_default=True, help="How long each rate is measured.")
@click.option("--window", "window_s", default=1, show_default=True, help="Length of a window, s.")
@click.option("--disorder", "disorder_s", default=2.0, show_default=True, help="The allowed disorder, s.")
@click.option(
    "--quick", is_flag=True, help="200 a second for 10 s: whether everything is seen; the delays mean little."
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures into this file.")
def main(
    *,
    rates: tuple[int, ...],
    share: float,
    seconds: float,
    window_s: int,
    disorder_s: float,
    quick: bool,
    json_path: Path | None,
) -> None:
    r"""Delays from an event's being on Kafka to its being seen, and from a window's end to its alerts.

    \b
    Example:
        python -m tests.bench.latency --rate 1000 --seconds 20
    """
    if quick:
        # Much disorder is allowed: on a busy machine a probe may be late otherwise.
        rates, seconds, disorder_s = (200,), 10.0, 5.0
    top = 0 if rates else int(most() * share) // 1_000 * 1_000
    results = []
    with servers() as running:
        report = circumstances("bench-latency", running) | {"window_s": window_s, "disorder_s": disorder_s}
        results += [at_rate(running, rate, seconds, window_s, disorder_s) for rate in rates or RATES]
        for _ in range(TRIES if top else 0):
            results.append(at_rate(running, top, seconds, window_s, disorder_s))
            if results[-1]["kept_up"]:
                break
            top = slower(results[-1])
    click.echo(table(results))
    write(json_path, {**report, "results": results})
    unseen = sum(told.get("missing", 0) for one in results if one["kept_up"] or quick for told in one["seen"].values())
    if unseen:
        raise click.ClickException(f"{unseen} probes or alerts were not seen")


if __name__ == "__main__":
    main()
