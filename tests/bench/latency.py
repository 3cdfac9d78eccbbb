"""How soon an event can be seen: ``make bench-latency``, ``make bench-latency ARGS="--rate 1000 --seconds 10"``.

While another process produces events at an even rate, probes are produced here, twenty a second, dated now. A probe's
delay is from Kafka's acknowledgement until Redis, or TimescaleDB, shows as many probes in its window as there were
by then. Both are asked every few milliseconds, which is part of what is measured.

A window's delay is from its end and the allowed disorder until it is on the topic of closed windows, where the detector
takes it up; what judging it costs is measured by ``make bench-detector``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from confluent_kafka import Consumer, Producer

from funnelwatch.settings import Settings
from producers.topics import ensure_topics
from schemas.codec import Decoder, Encoder
from sinks.redis.hot import HotCopy
from sinks.timescale.database import Database
from tests.bench.speed.__main__ import machine, own_topics
from tests.stack import drop_database, make_database, servers
from tests.traffic import event
from tests.worker import ROOT, worker

if TYPE_CHECKING:
    from collections.abc import Callable

RATES = (1_000, 20_000, 100_000)
WINDOW_S = 10
PROBE_EVERY_S = 0.05
LOOK_EVERY_S = 0.004
PROBE = {"os": "probe", "app_version": "probe"}
SHOWN = """
SELECT impressions FROM window_counts
WHERE funnel = 'sign_up' AND window_start = to_timestamp(%s / 1000.0) AND os = 'probe' AND app_version = 'probe'
"""


@dataclass
class Probes:
    """Probes on their way, each with its window, its number there, and when Kafka took it (s)."""

    produced: dict[int, int] = field(default_factory=dict)
    waiting: list[tuple[int, int, float]] = field(default_factory=list)
    delays_ms: list[float] = field(default_factory=list)

    def look(self, shown: Callable[[int], int]) -> None:
        """See which are there by now."""
        counts = {window: shown(window) for window in {window for window, _, _ in self.waiting}}
        now = time.time()
        for one in list(self.waiting):
            window, number, taken = one
            if counts[window] >= number:
                self.delays_ms.append((now - taken) * 1000)
                self.waiting.remove(one)


def percentiles(delays_ms: list[float]) -> dict[str, float]:
    """What is told of delays, ms."""
    if not delays_ms:
        return {}
    p50, p99 = np.percentile(delays_ms, [50, 99])
    return {"p50": round(p50), "p99": round(p99), "max": round(max(delays_ms)), "n": len(delays_ms)}


def measure(settings: Settings, rate: int, seconds: float) -> dict[str, Any]:
    """The delays at one rate."""
    ensure_topics(settings)
    with worker(settings) as running:
        running.wait_assigned()
        given = {"properties": settings.kafka(), "topic": settings.events_topic, "rate": rate, "seconds": seconds}
        load = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.load", json.dumps(given)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        closed: list[float] = []
        ended = threading.Event()
        listening = threading.Thread(target=_listen, args=(settings, closed, ended))
        listening.start()
        try:
            delays = _probe(settings, seconds)
            sent = int(load.communicate(timeout=60)[0])
            # The last windows close as well.
            time.sleep(settings.allowed_disorder_s + 2)
        finally:
            load.kill()
            ended.set()
            listening.join()
    return {"rate": rate, "produced_per_second": round(sent / seconds), **delays, "closed window": percentiles(closed)}


def _probe(settings: Settings, seconds: float) -> dict[str, dict[str, float]]:
    """Produce probes and look for them; the first seconds are not measured."""
    encode = Encoder("FunnelEvent")
    producer = Producer(settings.kafka(**{"linger.ms": 0}))
    hot = HotCopy(settings.redis_url, settings.redis_prefix, settings.hot_horizon_s)
    database = Database(settings.timescale_url)
    stores: dict[str, tuple[Probes, Callable[[int], int]]] = {
        "redis": (Probes(), lambda window: _in_redis(hot, window)),
        "timescaledb": (Probes(), lambda window: _in_database(database, window)),
    }
    produced: dict[int, int] = {}
    deadline, due = time.monotonic() + seconds - 1, time.monotonic() + 2

    def produce() -> None:
        now = int(time.time() * 1000)
        window = now - now % settings.window_ms
        produced[window] = number = produced.get(window, 0) + 1
        taken: list[float] = []
        value = encode(event(ts=now, **PROBE))
        # One session: probes are counted in the order in which they were produced.
        producer.produce(settings.events_topic, value, b"probe", on_delivery=lambda *_: taken.append(time.time()))
        while not taken:
            producer.poll(0.001)
        for probes, _ in stores.values():
            probes.waiting.append((window, number, taken[0]))

    while (now := time.monotonic()) < deadline or any(probes.waiting for probes, _ in stores.values()):
        if now > deadline + 20:
            raise click.ClickException("probes are not counted 20 s after the last of them: the rate is too high")
        if due <= now < deadline:
            due += PROBE_EVERY_S
            produce()
        for probes, shown in stores.values():
            if probes.waiting:
                probes.look(shown)
        time.sleep(LOOK_EVERY_S)
    hot.close()
    database.close()
    return {name: percentiles(probes.delays_ms) for name, (probes, _) in stores.items()}


def _in_redis(hot: HotCopy, window: int) -> int:
    found = hot.read("sign_up", window)
    return sum(tally.impressions for series, tally in found.items() if series.os == "probe")


def _in_database(database: Database, window: int) -> int:
    with database.transaction() as cursor:
        row = cursor.execute(SHOWN, [window]).fetchone()
    return row["impressions"] if row else 0


def _listen(settings: Settings, delays_ms: list[float], ended: threading.Event) -> None:
    """Note when windows arrive that began since."""
    group = {"group.id": f"latency-{uuid.uuid4()}", "auto.offset.reset": "earliest", "fetch.wait.max.ms": 10}
    consumer = Consumer(settings.kafka(**group))
    consumer.subscribe([settings.windows_topic])
    decode = Decoder("ClosedWindow")
    began_ms = time.time_ns() // 1_000_000
    while not ended.is_set():
        message = consumer.poll(0.05)
        if message is None or message.error():
            continue
        record = decode(message.value())
        if record["revision"] == 0 and record["window_start"] >= began_ms:
            due = record["window_end"] + settings.allowed_disorder_s * 1000
            delays_ms.append(message.timestamp()[1] - due)
    consumer.close()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rate", "rates", multiple=True, type=int, help="Events/s; several times for several. [default: three]")
@click.option("--seconds", default=40.0, show_default=True, help="How long each rate is measured.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures into this file.")
def main(rates: tuple[int, ...], seconds: float, json_path: Path | None) -> None:
    """Delays from an event's being on Kafka to its being seen."""
    results = []
    with ExitStack() as stack:
        running = stack.enter_context(servers())
        for rate in rates or RATES:
            unique = f"latency_{uuid.uuid4().hex[:12]}"
            url = make_database(running.timescale_url, unique, timescaledb=running.timescaledb)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="funnelwatch-bench-")))
            settings = Settings(
                kafka_bootstrap_servers=running.kafka_bootstrap_servers,
                redis_url=running.redis_url,
                timescale_url=url,
                redis_prefix=unique,
                consumer_group=unique,
                topic_partitions=4,
                window_s=WINDOW_S,
                data_dir=folder,
                session_timeout_s=6.0,
                web_port=0,
                **own_topics(unique),
            )
            try:
                results.append(measure(settings, rate, seconds))
            finally:
                drop_database(running.timescale_url, unique)
            click.echo(json.dumps(results[-1]), err=True)
        report = {"machine": machine(), "kafka": running.kafka, "database": running.database, "results": results}
    click.echo(f"{'events/s':>9}  {'':<14}{'p50 ms':>8}{'p99 ms':>8}{'max ms':>8}")
    for one in results:
        for name in ("redis", "timescaledb", "closed window"):
            told = one[name]
            if told:
                click.echo(f"{one['rate']:>9,}  {name:<14}{told['p50']:>8}{told['p99']:>8}{told['max']:>8}")
    if json_path:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
