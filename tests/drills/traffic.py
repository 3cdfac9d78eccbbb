"""Produces the records of a drill while its faults happen, and writes the ledger."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from confluent_kafka import Producer

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings
    from tests.drills.events import Source
    from tests.drills.ledger import Ledger

TICK_S = 0.02
DELIVERY_TIMEOUT_S = 600.0
"""A broker that is restarted must not make a delivery fail: what Kafka has, and what not, would be unknown."""


class TrafficError(RuntimeError):
    """The drill's own producing failed, so that nothing can be said about the pipeline."""


class Traffic:
    """A thread that produces ``events`` records, spread over the time that the faults are going to take.

    Args:
        settings: where to.
        source: makes the records.
        ledger: is told of each.
        events: how many.
        expected_s: how long the faults will take, about.
        faults: how many there will be; each has its share of the records, however long it takes.
    """

    def __init__(
        self, settings: Settings, source: Source, ledger: Ledger, *, events: int, expected_s: float, faults: int
    ) -> None:
        self._settings = settings
        self._source = source
        self._ledger = ledger
        self._events = events
        self._began = time.monotonic()
        self._until = self._began + expected_s
        self._share = 1 / (faults + 1)
        self._most = events * self._share
        self._rate = 0.0
        self._burst = 0
        self._held = threading.Event()
        self._go = threading.Event()
        self._go.set()
        self._finish = threading.Event()
        self._abort = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def share(self, done: float) -> None:
        """Say that this share of the faults, 0 to 1, has happened: what is left is spread over the rest."""
        self._rate = 0.0
        if done > 0:
            now = time.monotonic()
            self._most = self._events * (done + self._share)
            self._until = now + (now - self._began) * (1 - done) / done

    def steady(self, per_second: float) -> None:
        """Produce at this rate, however long it takes, until the next ``share``."""
        self._rate = per_second

    def hold(self, burst: int) -> None:
        """Produce some more, let Kafka confirm everything, and stop until ``go_on``, with a producer of its own.

        A broker may then be ended: the drill must know what Kafka has, and librdkafka may not survive its restart.
        """
        self._burst = burst
        self._held.clear()
        self._go.clear()
        while not self._held.wait(0.1):
            self.check()

    def go_on(self) -> None:
        """Produce again."""
        self._go.set()

    def all_at_once(self) -> None:
        """Produce what is left as fast as it goes."""
        self._finish.set()

    def finish(self) -> None:
        """Produce what is left at once, and return when Kafka has confirmed everything.

        Raises:
            TrafficError: something was not confirmed.
        """
        self._finish.set()
        self._thread.join(DELIVERY_TIMEOUT_S + 60)
        self.check()
        if self._thread.is_alive() or self._ledger.failed or self._ledger.confirmed < self._events:
            failed = self._ledger.failed[:3]
            raise TrafficError(f"Kafka confirmed {self._ledger.confirmed} of {self._events} records: {failed}")

    def check(self) -> None:
        """Raise what stopped the traffic, if anything did."""
        if self._error is not None:
            raise TrafficError(f"producing failed: {self._error}") from self._error

    def stop(self) -> None:
        """Give up."""
        self._abort.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        try:
            self._produce()
        except BaseException as error:  # noqa: BLE001 - told to the drill by ``check``
            self._error = error

    def _producer(self) -> Producer:
        return Producer(
            self._settings.kafka(
                "producer",
                **{
                    "client.id": "funnelwatch-drill",
                    "enable.idempotence": True,
                    "compression.type": "lz4",
                    "linger.ms": 5,
                    "partitioner": "murmur2_random",
                    "delivery.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
                    "log_level": 0,
                },
            )
        )

    def _produce(self) -> None:
        producer = self._producer()
        sent = 0
        last = time.monotonic()
        owed = 0.0
        while sent < self._events and not self._abort.is_set():
            if not self._go.is_set():
                for _ in range(min(self._burst, self._events - sent)):
                    self._send(producer, time.time_ns() // 1_000_000)
                    sent += 1
                self._flush(producer)
                self._held.set()
                while not self._go.wait(0.1) and not self._abort.is_set():
                    pass
                producer, last = self._producer(), time.monotonic()
            now = time.monotonic()
            left = self._events - sent
            if self._finish.is_set():
                owed = min(left, 5_000)
            elif self._rate:
                owed += self._rate * (now - last)
            else:
                owed += left * (now - last) / max(self._until - now, 1.0)
                owed = max(0.0, min(owed, self._most - sent))
            last = now
            now_ms = time.time_ns() // 1_000_000
            for _ in range(min(int(owed), left)):
                self._send(producer, now_ms)
                sent += 1
                owed -= 1
            producer.poll(0)
            if not self._finish.is_set():
                self._finish.wait(TICK_S)
        self._flush(producer)

    def _flush(self, producer: Producer) -> None:
        while producer.flush(0.5) and not self._abort.is_set():
            pass

    def _send(self, producer: Producer, now_ms: int) -> None:
        record = self._source(now_ms)
        delivered = partial(self._ledger.delivered, self._ledger.add(record.entry))
        while not self._abort.is_set():
            try:
                producer.produce(
                    self._settings.events_topic,
                    record.value,
                    record.key,
                    on_delivery=delivered,
                    timestamp=record.log_time,
                )
            except BufferError:
                producer.poll(0.1)
            else:
                return
