"""What throughput and memory do as things grow: ``make bench-growth``, ``make bench-growth ARGS="--events 100000"``.

One worker with everything on counts a backlog, and one thing is made larger at a time: the series, the windows that the
events are spread over (lateness), the backlog itself, and the partitions. A backlog is the worst case for memory, since
whatever has bounds fills up to them.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from funnelwatch.settings import Settings
from producers.topics import ensure_topics
from tests.bench.speed.__main__ import machine, one_run, own_topics
from tests.bench.speed.contenders import ours
from tests.bench.speed.topic import fill
from tests.fake_registry import fake_registry
from tests.stack import servers


@dataclass(frozen=True)
class Case:
    """One backlog."""

    what: str
    series: int = 100
    windows: int = 5
    partitions: int = 4
    times: int = 1


CASES = (
    Case("100 series, 5 windows, 4 partitions"),
    Case("1,000 series", series=1_000),
    Case("10,000 series", series=10_000),
    Case("100,000 series", series=100_000),
    Case("1 window", windows=1),
    Case("100 windows", windows=100),
    Case("1,000 windows", windows=1_000),
    Case("1 partition", partitions=1),
    Case("12 partitions", partitions=12),
    Case("10 times the backlog", times=10),
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--events", default=1_000_000, show_default=True, help="How many events a backlog has.")
@click.option("--only", multiple=True, help="Only cases whose name has this in it; may be given several times.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures into this file.")
def main(events: int, only: tuple[str, ...], json_path: Path | None) -> None:
    """Throughput and memory of one worker against the size of things."""
    results = []
    with ExitStack() as stack:
        running = stack.enter_context(servers())
        registry = stack.enter_context(fake_registry())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="funnelwatch-bench-")))
        for case in CASES:
            if only and not any(one in case.what for one in only):
                continue
            topic, count = f"growth-{uuid.uuid4().hex[:8]}", events * case.times
            plain = Settings(
                kafka_bootstrap_servers=running.kafka_bootstrap_servers,
                redis_url=running.redis_url,
                schema_registry_url=registry.url,
                topic_partitions=case.partitions,
                data_dir=folder,
            )
            ensure_topics(plain.model_copy(update=own_topics(topic)))
            expected = fill(plain, {topic: count}, series=case.series, windows=case.windows)[topic]
            took = one_run(running, plain, ours, (case.what, topic, count), expected)
            results.append(
                {
                    "case": case.what,
                    "events": count,
                    "per_second": round(count / took.seconds),
                    "cpu_us": round(took.cpu_s / count * 1e6, 2),
                    "memory_mb": round(took.memory_mb),
                }
            )
            click.echo(json.dumps(results[-1]), err=True)
    click.echo(f"{'':<38}{'events':>12}{'events/s':>12}{'CPU µs':>8}{'MB':>6}")
    for one in results:
        click.echo(
            f"{one['case']:<38}{one['events']:>12,}{one['per_second']:>12,}{one['cpu_us']:>8}{one['memory_mb']:>6}"
        )
    if json_path:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps({"machine": machine(), "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
