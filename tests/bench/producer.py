"""What emitting costs an app, with Kafka there and away: ``make bench-producer``.

``FunnelProducer.emit`` against ``Producer.produce`` of confluent-kafka with the same properties and bytes that are
there already, on one thread. A call's processor time is that of the app's thread; how long it lasts, by the wall,
holds what it waits for as well, such as the thread that takes in Kafka's reports. Events a second are from the first
call until Kafka has confirmed the last.

With Kafka away, events wait in the buffer until it is full, and are dropped and counted from then on. Kafka then comes
back, and what was kept is delivered.
"""

from __future__ import annotations

import gc
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import psutil
from confluent_kafka import Producer

from funnelwatch.producers.client.producer import FunnelProducer
from funnelwatch.producers.kafka.clients import producer_properties
from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.settings import Settings
from tests.bench.report import circumstances, write
from tests.bench.speed.__main__ import own_topics
from tests.proxy import Door
from tests.stack import servers, wait_until
from tests.traffic import ENCODE, event

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5
BUFFER_EVENTS = 100_000
DELIVERY_TIMEOUT_S = 120.0
"""Both as they are by default."""


def cost(what: str, call: Callable[[], object], count: int, between: Callable[[], object]) -> dict[str, Any]:
    """What a call costs the thread that makes it.

    Args:
        what: its name.
        call: the call.
        count: how many make a round.
        between: called after each round, for what must not pile up.

    Returns:
        The name; ``cpu_us``, processor time of the thread, the least of some rounds; ``p50_us``, ``p99_us`` and
        ``max_us``, how long it lasts.
    """
    found = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(count):
            call()
        found.append((time.thread_time() - began) / count * 1e6)
        between()
    lasted = np.zeros(count)
    for number in range(count):
        start = time.perf_counter_ns()
        call()
        lasted[number] = (time.perf_counter_ns() - start) / 1000
    between()
    p50, p99 = np.percentile(lasted, [50, 99])
    return {
        "what": what,
        "cpu_us": round(min(found), 2),
        "p50_us": round(p50, 1),
        "p99_us": round(p99, 1),
        "max_us": round(lasted.max()),
    }


def per_second(call: Callable[[], object], count: int, flush: Callable[[], object]) -> int:
    """Events/s from the first call until Kafka has confirmed the last."""
    began = time.monotonic()
    for _ in range(count):
        call()
    flush()
    return round(count / (time.monotonic() - began))


def emitting(producer: FunnelProducer) -> Callable[[], object]:
    """What an app does for one event."""
    return lambda: producer.emit(sign_up_session_id="5a8b2f0c", step="INPUT_NAME", phase="IMPRESSION", os="iOS")


def there(settings: Settings, events: int) -> list[dict[str, Any]]:
    """Both, while Kafka is there."""
    bare = Producer(producer_properties(settings, BUFFER_EVENTS, DELIVERY_TIMEOUT_S))
    value = ENCODE(event())

    def produce() -> None:
        while True:
            try:
                bare.produce(settings.events_topic, value, b"5a8b2f0c")
            except BufferError:
                bare.poll(0.1)
            else:
                break
        bare.poll(0)

    def flush() -> None:
        bare.flush(60)

    found = [cost("Producer.produce, bytes as they are", produce, events, flush)]
    found[0]["per_second"] = per_second(produce, events * ROUNDS, flush)
    with FunnelProducer(settings, when_full="block", buffer_events=BUFFER_EVENTS) as producer:
        emit = emitting(producer)
        found.append(cost("FunnelProducer.emit", emit, events, lambda: producer.flush(60)))
        found[1]["per_second"] = per_second(emit, events * ROUNDS, lambda: producer.flush(60))
        stats = producer.stats()
        assert (stats.failed, stats.dropped, stats.buffered) == (0, 0, 0), stats
    return found


def away(settings: Settings, events: int, buffer_events: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What calls cost while Kafka is away, and what becomes of their events and of memory; then Kafka comes back."""
    host, _, port = settings.kafka_bootstrap_servers.rpartition(":")
    door = Door(host, int(port))
    door.shut()
    producer = FunnelProducer(
        settings.model_copy(update={"kafka_bootstrap_servers": f"{host}:{door.port}"}),
        buffer_events=buffer_events,
        delivery_timeout_s=DELIVERY_TIMEOUT_S,
    )
    emit = emitting(producer)
    emit()
    before = _resident_mb()
    few = min(events, buffer_events // (2 * (ROUNDS + 1)))
    found = [cost("FunnelProducer.emit, Kafka away", emit, few, lambda: None)]
    while emit():
        pass
    full = _resident_mb()
    found.append(cost("FunnelProducer.emit, Kafka away, buffer full", emit, events, lambda: None))
    after = _resident_mb()
    stats = producer.stats()
    assert stats.buffered == stats.emitted == buffer_events, stats
    door.open()
    began = time.monotonic()
    wait_until(lambda: producer.stats().buffered == 0, "Kafka has what was kept", DELIVERY_TIMEOUT_S)
    took = time.monotonic() - began
    end = producer.stats()
    producer.close()
    door.close()
    return found, {
        "buffer_events": buffer_events,
        "kept": stats.buffered,
        "dropped": stats.dropped,
        "delivered_after": end.delivered,
        "failed_after": end.failed,
        "delivered_within_s": round(took, 1),
        "memory_full_mb": round(full - before, 1),
        "memory_while_dropping_mb": round(after - full, 1),
    }


def _resident_mb() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss / 1e6)


def table(report: dict[str, Any]) -> str:
    """The figures for a person."""
    lines = [f"{'':<46}{'CPU µs':>8}{'p50 µs':>8}{'p99 µs':>8}{'max µs':>9}{'events/s':>10}"]
    for one in report["calls"]:
        rate = f"{one['per_second']:,}" if "per_second" in one else ""
        lines.append(
            f"{one['what']:<46}{one['cpu_us']:>8.1f}{one['p50_us']:>8.1f}{one['p99_us']:>8.1f}{one['max_us']:>9,}{rate:>10}"
        )
    return "\n".join([*lines, "", outage(report["away"])])


def outage(found: dict[str, Any]) -> str:
    """What becomes of events and memory while Kafka is away, in words."""
    return (
        f"Kafka away: {found['kept']:,} events were kept, which took {found['memory_full_mb']:.0f} MB; the next "
        f"{found['dropped']:,} were dropped and counted, with {found['memory_while_dropping_mb']:.0f} MB more. Kafka "
        f"back: {found['delivered_after']:,} of those kept were delivered within {found['delivered_within_s']:.0f} s, "
        f"{found['failed_after']:,} failed."
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--events", default=20_000, show_default=True, type=click.IntRange(100), help="Calls in a round.")
@click.option("--quick", is_flag=True, help="A few calls, a small buffer: whether all is delivered, no more.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures into this file.")
def main(events: int, quick: bool, json_path: Path | None) -> None:
    r"""Microseconds of an app's thread for each event, and what becomes of events while Kafka is away.

    \b
    Example:
        python -m tests.bench.producer --events 50000
    """
    buffer_events = BUFFER_EVENTS
    if quick:
        events, buffer_events = 500, 5_000
    with servers() as running:
        topics = own_topics(f"producer-{uuid.uuid4().hex[:8]}")
        kafka = {"kafka_bootstrap_servers": running.kafka_bootstrap_servers, "kafka_config": running.kafka_config}
        settings = Settings(**kafka, **topics)  # type: ignore[arg-type]
        ensure_topics(settings)
        report = circumstances("bench-producer", running)
        # First, while this process has no memory left over from before that would hide what the buffer takes.
        calls, outcome = away(settings, events, buffer_events)
        report |= {"calls": [*there(settings, events), *calls], "away": outcome}
    click.echo(table(report))
    write(json_path, report)


if __name__ == "__main__":
    main()
