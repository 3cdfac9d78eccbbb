"""How fast events are counted, side by side with others: ``make bench``, ``make bench ARGS="--quick"``.

One topic on Kafka, the same work for each contender, one after the other on the same machine: counts a minute, step,
os, browser, app version, phase and status, in PostgreSQL. What a contender has written is compared with what must come
of the events before its time counts. Slow ones get the first part of the same events in a topic of their own; events a
second are compared.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.settings import Settings
from tests.bench.report import circumstances, write
from tests.bench.speed.contenders import ContenderError, Race, Took, ours, python
from tests.bench.speed.java import flink_sql, java_versions, kafka_streams
from tests.bench.speed.topic import event_bytes, fill
from tests.fake_registry import fake_registry
from tests.stack import Servers, drop_database, make_database, servers

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.contenders.work import Key

    Run = Callable[[Race], Took]

PARTITIONS = 4
# Not resolved: the interpreter of a virtual environment is a link, and knows by its place that it is one.
PEERS = Path(os.environ.get("BENCH_PEERS", ".venv-peers")).absolute()
SHARE = 0.05
"""Of the events, for those that are too slow for all of them."""

FAUST = ("worker", "--without-web", "--loglevel", "warn")
HEADS = f"{'of bare':>9}{'ours is':>9}{'CPU µs':>9}{'MB':>6}"
BARE, OURS = "bare consume loop", "funnelwatch"


def contenders(peers: Path) -> dict[str, tuple[Run, bool]]:
    """By name: how it is run, and whether over all events."""
    found: dict[str, tuple[Run, bool]] = {
        BARE: (python("bare", writes=False), True),
        OURS: (ours, True),
        "funnelwatch, sessions not counted": (lambda race: ours(race, count_sessions=False), True),
        "funnelwatch, duplicates not removed": (lambda race: ours(race, duplicate_horizon_s=0.0), True),
        "Faust, table": (python("faust_table", sys.executable, *FAUST), False),
        "Faust, take": (python("faust_take", sys.executable, *FAUST), False),
    }
    others: dict[str, tuple[Callable[[], Run], bool]] = {
        "Quix Streams": (lambda: python("quix", _interpreter(peers)), False),
        "Bytewax": (lambda: python("bytewax_flow", _interpreter(peers)), False),
        "Pathway": (lambda: python("pathway_flow", _interpreter(peers / "pathway"), says_end=False), False),
        "Kafka Streams": (kafka_streams, True),
        "Flink SQL": (flink_sql, True),
    }
    for name, (prepare, whole) in others.items():
        try:
            found[name] = prepare(), whole
        except RuntimeError as error:
            click.echo(f"NOT MEASURED: {name}: {error}", err=True)
    return found


def _interpreter(environment: Path) -> str:
    """Python of a contender's environment.

    Raises:
        RuntimeError: the environment is missing.
    """
    if not (found := environment / "bin" / "python").exists():
        raise RuntimeError(f"{environment} is missing (make bench makes it, where the platform has wheels)")
    return str(found)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--events", default=2_000_000, show_default=True, help="How many events the topic has.")
@click.option("--quick", is_flag=True, help="5,000 events: whether everybody counts right; the speeds mean nothing.")
@click.option("--only", multiple=True, help="Only contenders whose name begins so; may be given several times.")
@click.option("--rounds", default=3, show_default=True, help="Runs of each; the median counts.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures into this file.")
def main(events: int, quick: bool, only: tuple[str, ...], rounds: int, json_path: Path | None) -> None:
    r"""Count one topic by each contender in turn.

    \b
    Example:
        python -m tests.bench.speed --events 2000000 --json speed.json
    """
    if quick:
        events, rounds = 5_000, 1
    chosen = {
        name: run
        for name, run in contenders(PEERS).items()
        if not only or any(name.lower().startswith(one.lower()) for one in only)
    }
    share = events if quick else int(events * SHARE)
    with ExitStack() as stack:
        running = stack.enter_context(servers())
        registry = stack.enter_context(fake_registry())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="funnelwatch-bench-")))
        topics = {whole: f"bench-{uuid.uuid4().hex[:8]}" for whole in (True, False)}
        plain = Settings(
            kafka_bootstrap_servers=running.kafka_bootstrap_servers,
            kafka_config=running.kafka_config,
            redis_url=running.redis_url,
            schema_registry_url=registry.url,
            topic_partitions=PARTITIONS,
            data_dir=folder,
        )
        for topic in topics.values():
            ensure_topics(plain.model_copy(update=own_topics(topic)))
        began = time.monotonic()
        expected = fill(plain, {topics[True]: events, topics[False]: share})
        click.echo(f"{events:,} events produced in {time.monotonic() - began:.0f} s", err=True)
        results = []
        for name, (run, whole) in chosen.items():
            count = events if whole else share
            runs = [
                one_run(running, plain, run, (name, topics[whole], count), expected[topics[whole]])
                for _ in range(rounds)
            ]
            middle = sorted(runs, key=lambda one: one.seconds)[len(runs) // 2]
            figures = {key: getattr(middle, key) for key in ("seconds", "cpu_s", "memory_mb")}
            results.append(
                {
                    "contender": name,
                    "events": count,
                    "per_second": count / middle.seconds,
                    **figures,
                    "all_seconds": [round(one.seconds, 3) for one in runs],
                }
            )
            click.echo(f"{name}: {count / middle.seconds:,.0f} events/s", err=True)
        report = {
            **circumstances("bench", running),
            "servers": {"kafka": running.kafka, "database": running.database},
            "versions": versions(),
            "partitions": PARTITIONS,
            "event_bytes": round(event_bytes(registry.url), 1),
            "results": results,
        }
    click.echo(table(report))
    write(json_path, report)


def own_topics(topic: str) -> dict[str, str]:
    """Names of all topics, beside this one of events."""
    return {
        "events_topic": topic,
        "metrics_topic": f"{topic}.metrics",
        "windows_topic": f"{topic}.windows",
        "alerts_topic": f"{topic}.alerts",
        "dead_letters_topic": f"{topic}.dead_letters",
    }


def one_run(
    running: Servers,
    plain: Settings,
    run: Run,
    what: tuple[str, str, int],
    expected: dict[Key, int],
    *,
    prepare: Callable[[Settings], None] = lambda settings: None,
) -> Took:
    """Run a contender in a database and a folder of its own, which may be prepared, and compare what it counted."""
    name, topic, count = what
    unique = f"bench_{uuid.uuid4().hex[:12]}"
    folder = plain.data_dir / unique
    folder.mkdir()
    url = make_database(running.timescale_url, unique, timescaledb=running.timescaledb)
    own = plain.model_copy(
        update={
            **own_topics(topic),
            # Closed windows and alerts of an earlier run are not this one's.
            "windows_topic": f"{unique}.windows",
            "alerts_topic": f"{unique}.alerts",
            "timescale_url": url,
            "redis_prefix": unique,
            "consumer_group": unique,
            "data_dir": folder,
        }
    )
    try:
        prepare(own)
        since_ms = min(key[0] for key in expected)
        took = run(Race(own, count, folder, timeout_s=120 + count / 1_000, since_ms=since_ms))
    finally:
        drop_database(running.timescale_url, unique)
    if took.found is not None and took.found != expected:
        wrong = {key for key in took.found.keys() | expected.keys() if took.found.get(key) != expected.get(key)}
        raise ContenderError(f"{name} counted wrong: {len(wrong)} of {len(expected)} counts, for instance {min(wrong)}")
    return took


def versions() -> dict[str, str]:
    """Of what is compared."""
    found = {"python": platform.python_version(), "funnelwatch": version("funnelwatch")}
    found |= {name: version(name) for name in ("faust-streaming", "confluent-kafka", "fastavro", "numpy")}
    folder = Path(__file__).parents[1]
    locked = [line for name in ("peers", "pathway") for line in (folder / f"{name}.lock").read_text().splitlines()]
    pairs = (line.split()[0].partition("==") for line in locked if "==" in line)
    found |= {name: number for name, _, number in pairs if name in ("quixstreams", "bytewax", "pathway")}
    return found | java_versions()


def table(report: dict[str, Any]) -> str:
    """The figures for a person."""
    results = report["results"]
    by_name = {one["contender"]: one["per_second"] for one in results}
    bare, own = by_name.get(BARE), by_name.get(OURS)
    size = f"; {report['event_bytes']:.0f} bytes an event" if "event_bytes" in report else ""
    lines = [
        f"{report['machine']}; {report['servers']['kafka']}, {report['servers']['database']}; "
        + ", ".join(f"{name} {number}" for name, number in report["versions"].items())
        + size,
        "",
        f"{'one process, everything committed':<38}{'events':>11}{'events/s':>12}{HEADS}",
    ]
    for one in results:
        rate = one["per_second"]
        lines.append(
            f"{one['contender']:<38}{one['events']:>11,}{rate:>12,.0f}"
            f"{f'{rate / bare:.2f}' if bare else '':>9}{f'{own / rate:.1f}x' if own else '':>9}"
            f"{one['cpu_s'] / one['events'] * 1e6:>9.1f}{one['memory_mb']:>6.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
