"""What emitting costs an app: ``make bench-producer``.

``FunnelProducer.emit`` against ``Producer.produce`` of confluent-kafka with bytes that are there already, on one
thread; then ``emit`` while Kafka is away, with the queue not yet full and full.
"""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from confluent_kafka import Producer

from deploy.embedded.ports import HOST, free_port
from funnelwatch.settings import Settings
from producers.producer import FunnelProducer
from producers.topics import ensure_topics
from tests.bench.speed.__main__ import machine, own_topics
from tests.stack import servers
from tests.traffic import ENCODE, event

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5


def cost_us(call: Callable[[], object], count: int) -> float:
    """CPU time of a call on this thread, the least of some rounds, µs."""
    found = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(count):
            call()
        found.append((time.thread_time() - began) / count * 1e6)
    return min(found)


def emitting(producer: FunnelProducer) -> Callable[[], object]:
    """What an app does for one event."""
    return lambda: producer.emit(sign_up_session_id="5a8b2f0c", step="INPUT_NAME", phase="IMPRESSION", os="iOS")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--events", default=20_000, show_default=True, help="Calls in a round.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures into this file.")
def main(events: int, json_path: Path | None) -> None:
    """Microseconds of an app's thread for each event."""
    found: dict[str, Any] = {}
    with servers() as running:
        topics = own_topics(f"producer-{uuid.uuid4().hex[:8]}")
        settings = Settings(kafka_bootstrap_servers=running.kafka_bootstrap_servers, **topics)  # type: ignore[arg-type]
        ensure_topics(settings)
        bare = Producer(settings.kafka(**{"queue.buffering.max.messages": 1_000_000, "linger.ms": 5}))
        value = ENCODE(event())

        def produce() -> None:
            bare.produce(settings.events_topic, value, b"5a8b2f0c")
            bare.poll(0)

        found["Producer.produce, bytes as they are"] = cost_us(produce, events)
        bare.flush(60)
        with FunnelProducer(settings) as producer:
            found["FunnelProducer.emit"] = cost_us(emitting(producer), events)
    away = settings.model_copy(update={"kafka_bootstrap_servers": f"{HOST}:{free_port()}"})
    producer = FunnelProducer(away)
    found["FunnelProducer.emit, Kafka away"] = cost_us(emitting(producer), events // 10)
    emit = emitting(producer)
    while emit():
        pass
    found["FunnelProducer.emit, Kafka away, queue full"] = cost_us(emitting(producer), events // 10)
    producer.close(0.1)
    for name, us in found.items():
        click.echo(f"{name:<46}{us:>8.1f} µs {1e6 / us:>12,.0f}/s")
    if json_path:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps({"machine": machine(), "us_per_call": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
