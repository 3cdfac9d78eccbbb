"""What a bench watches while a load is on: closed windows and alerts as a subscriber has them, and the lag."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, TopicPartition

from funnelwatch.schemas.codec import Decoder
from funnelwatch.sinks.timescale.database import Database
from tests.bench.latency.delays import Sample

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

SAMPLE_EVERY_S = 0.25
COUNTED = "SELECT coalesce(sum(next_offset), 0)::bigint AS counted FROM stream_progress WHERE topic = %s"


class Watch:
    """Two threads that note what is seen, and when, until it is closed."""

    def __init__(self, settings: Settings) -> None:
        self.windows: list[tuple[dict[str, Any], float]] = []
        self.alerts: list[tuple[dict[str, Any], float]] = []
        """Messages, and when they were read, ms."""
        self.samples: list[Sample] = []
        self._settings = settings
        self._over = threading.Event()
        self._failed: list[Exception] = []
        self._threads = [threading.Thread(target=self._run, args=(one,)) for one in (self._read, self._sample)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads.

        Raises:
            Exception: what one of them failed with.
        """
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._failed:
            raise self._failed[0]

    def _run(self, work: Any) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again where the bench waits for it
            self._failed.append(error)

    def _read(self) -> None:
        settings = self._settings
        seen = {settings.windows_topic: self.windows, settings.alerts_topic: self.alerts}
        decoders = {settings.windows_topic: Decoder("ClosedWindow"), settings.alerts_topic: Decoder("Alert")}
        consumer = Consumer(settings.kafka(**{"group.id": "not used", "fetch.wait.max.ms": 10}))
        known = consumer.list_topics(timeout=10).topics
        consumer.assign([TopicPartition(topic, number, 0) for topic in seen for number in known[topic].partitions])
        raw: list[tuple[str, bytes, float]] = []
        while not self._over.is_set():
            message = consumer.poll(0.05)
            if message is not None and not message.error():
                raw.append((message.topic(), message.value(), time.time() * 1000))
        consumer.close()
        # Decoded when it is over: it must not hold up what is measured.
        for topic, value, at in raw:
            seen[topic].append((decoders[topic](value), at))

    def _sample(self) -> None:
        topic = self._settings.events_topic
        consumer = Consumer(self._settings.kafka(**{"group.id": "not used"}))
        partitions = [TopicPartition(topic, number) for number in range(self._settings.topic_partitions)]
        with closing(Database(self._settings.timescale_url)) as database:
            while not self._over.wait(SAMPLE_EVERY_S):
                ends = [consumer.get_watermark_offsets(one, timeout=10, cached=False)[1] for one in partitions]
                at = time.monotonic()
                with database.transaction() as cursor:
                    row = cursor.execute(COUNTED, [topic]).fetchone()
                self.samples.append(Sample(at, sum(ends), row["counted"] if row else 0))
        consumer.close()
