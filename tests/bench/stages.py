"""Where an event's time goes: what a worker does, one thing after the other on one thread: ``make bench-stages``.

Each thing has its own clock, of processor time, so that what a server does meanwhile does not count. In a worker two
threads do this at once (intake, counting); what one of them costs alone bounds what it can do a second.
"""

from __future__ import annotations

import gc
import tempfile
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from confluent_kafka import Consumer, TopicPartition

from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.funnels import SESSION_WINDOW_MS
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.redis.cache import CountCache
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.stream.aggregate.aggregation import aggregate
from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.sessions import Sessions
from funnelwatch.stream.worker.components import WorkerComponents
from tests.bench.contenders.work import TUNED
from tests.bench.report import circumstances, write
from tests.bench.speed.__main__ import PARTITIONS, own_topics
from tests.bench.speed.topic import fill
from tests.fake_registry import fake_registry
from tests.stack import drop_database, make_database, servers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.stream.intake.polled_batch import PolledBatch
    from funnelwatch.stream.intake.validator import EventValidator

STAGES = {
    "take": ("intake", "records from librdkafka's queue, decoded and checked, into rows"),
    "validate": ("intake", "new series, records that are not plainly events"),
    "duplicates": ("intake", "event ids looked up and remembered"),
    "sessions": ("intake", "what events add by their sessions, which are remembered"),
    "aggregate": ("counting", "events added up to rows"),
    "flush": ("counting", "rows to PostgreSQL and back: our side of it"),
    "copy": ("counting", "totals to Redis: our side of it"),
}
"""Each thing, the thread that does it, and what it is; beside them librdkafka has threads of its own."""

LIBRDKAFKA = "librdkafka"


@dataclass
class Clocks:
    """Processor time, s, by what it went into."""

    spent: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Count what is done meanwhile on this thread."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.spent[name] = self.spent.get(name, 0.0) + time.thread_time() - began


class Timed(SeenIds):
    """Event ids, with a clock."""

    clocks: Clocks

    def are_new(self, *given: Any) -> Any:
        """As always."""
        with self.clocks.of("duplicates"):
            return super().are_new(*given)


class TimedSessions(Sessions):
    """Sessions, with a clock."""

    clocks: Clocks

    def credited(self, *given: Any) -> Any:
        """As always."""
        with self.clocks.of("sessions"):
            return super().credited(*given)


def consume(settings: Settings, events: int, clocks: Clocks) -> None:
    """Take the topic from librdkafka and do nothing with it."""
    consumer = Consumer(settings.kafka("consumer", **{"group.id": "stages", **TUNED}))
    consumer.assign([TopicPartition(settings.events_topic, number, 0) for number in range(PARTITIONS)])
    everything = time.process_time()
    with clocks.of("consume"):
        left = events
        while left:
            left -= len(consumer.consume(2_000, 0.05))
    clocks.spent[LIBRDKAFKA] = time.process_time() - everything - clocks.spent["consume"]
    consumer.close()


def count(settings: Settings, events: int, clocks: Clocks) -> int:
    """Count the topic; how many flushes it took."""
    components, database = WorkerComponents(settings), Database(settings.timescale_url)
    components.prepare()
    components.kafka.start()
    validator, fetcher = components.validator.start(), components.fetcher.start()
    store, cache = CountStore(database), CountCache(settings.redis_url, "stages", 86_400.0)
    cache.rebuild([], wall_clock_ms())
    counted = flushes = 0
    try:
        while counted < events:
            with clocks.of("take"):
                fetch = fetcher.fetch()
            if fetch.batches:
                counted += _count(settings, fetch, (validator, store, cache), clocks)
                flushes += 1
    finally:
        components.fetcher.stop()
        components.validator.stop()
        cache.close()
        database.close()
    clocks.spent["validate"] -= clocks.spent["duplicates"] + clocks.spent["sessions"]
    return flushes


def _count(
    settings: Settings,
    fetch: PolledBatch,
    tools: tuple[EventValidator, CountStore, CountCache],
    clocks: Clocks,
) -> int:
    validator, store, cache = tools
    now_ms, batches = wall_clock_ms(), []
    for assigned, batch in fetch.batches:
        if not isinstance(assigned.seen, Timed):
            assigned.seen = Timed(assigned.seen.horizon_ms)
            assigned.sessions = TimedSessions(SESSION_WINDOW_MS, settings.max_sessions)
            assigned.seen.clocks = assigned.sessions.clocks = clocks
        with clocks.of("validate"):
            validated = validator(batch, assigned.seen, now_ms, assigned.sessions)
        with clocks.of("aggregate"):
            batches.append(aggregate(validated, settings.window_ms, 0, now_ms))
    with clocks.of("flush"):
        flushed = store.flush(settings.events_topic, fetch.batches[0][0].topic_id, batches)
    with clocks.of("copy"):
        cache.write(flushed.totals, now_ms)
    return sum(one.accepted for one in batches)


def table(report: dict[str, Any]) -> str:
    """For a person."""
    lines = ["| | thread | CPU µs an event |", "|---|---|---:|"]
    lines += [f"| {one['stage']}: {one['what']} | {one['thread']} | {one['cpu_us']:.2f} |" for one in report["results"]]
    threads: dict[str, float] = {}
    for one in report["results"]:
        threads[one["thread"]] = threads.get(one["thread"], 0.0) + one["cpu_us"]
    each = ", ".join(f"{thread} {us:.2f}" for thread, us in threads.items())
    total = f"{sum(threads.values()):.2f} µs an event: {each}."
    if "consume_us" in report:
        total += f" `Consumer.consume` alone, a Python object for each message: {report['consume_us']:.2f} µs."
    return (
        "\n".join(lines)
        + f"\n\n{total} {report['events']:,} events, {report['series']:,} series, flushes: {report['flushes']}."
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--events", default=1_000_000, show_default=True, help="How many events the topic has.")
@click.option("--series", default=100, show_default=True, help="About so many series occur.")
@click.option("--quick", is_flag=True, help="5,000 events: whether it works.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures into this file.")
def main(events: int, series: int, quick: bool, json_path: Path | None) -> None:
    r"""Tell what a worker spends an event's time on.

    \b
    Example:
        python -m tests.bench.stages --events 1000000 --json stages.json
    """
    if quick:
        events = 5_000
    clocks = Clocks()
    with ExitStack() as stack:
        running = stack.enter_context(servers())
        registry = stack.enter_context(fake_registry())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="funnelwatch-bench-")))
        unique = f"stages_{uuid.uuid4().hex[:12]}"
        url = make_database(running.timescale_url, unique, timescaledb=running.timescaledb)
        stack.callback(drop_database, running.timescale_url, unique)
        settings = Settings(
            kafka_bootstrap_servers=running.kafka_bootstrap_servers,
            kafka_config=running.kafka_config,
            redis_url=running.redis_url,
            timescale_url=url,
            schema_registry_url=registry.url,
            topic_partitions=PARTITIONS,
            consumer_group=unique,
            data_dir=folder,
        ).model_copy(update=own_topics(unique))
        ensure_topics(settings)
        fill(settings, {settings.events_topic: events}, series=series)
        gc.set_threshold(200_000, 20, 20)
        consume(settings, events, clocks)
        flushes = count(settings, events, clocks)
        gc.collect()  # clients of Kafka end with the last who knows them, and before Kafka does
        report = circumstances("bench-stages", running)
    said = STAGES | {LIBRDKAFKA: (LIBRDKAFKA, "fetching, decompressing, queueing, on threads of its own")}
    report |= {
        "events": events,
        "series": series,
        "flushes": flushes,
        "consume_us": round(clocks.spent["consume"] / events * 1e6, 3),
        "results": [
            {"stage": name, "thread": thread, "what": what, "cpu_us": round(clocks.spent[name] / events * 1e6, 3)}
            for name, (thread, what) in said.items()
        ],
    }
    click.echo(table(report))
    write(json_path, report)


if __name__ == "__main__":
    main()
