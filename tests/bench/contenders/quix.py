"""Quix Streams as its guide has it for databases: decode in the dataframe, a ``BatchingSink`` that writes a batch.

A windowed count of its own would need a ``group_by`` first, by which every event goes through Kafka once more.
"""

from __future__ import annotations

from collections import Counter

from quixstreams import Application
from quixstreams.kafka import ConnectionConfig
from quixstreams.sinks import BatchingSink, SinkBatch
from work import Sink, begin, decode, end, key, task

given = task()


class Counts(BatchingSink):
    """Counts each batch at the checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self._left = given.events

    def setup(self) -> None:
        """Connect."""
        self._sink = Sink(given.database)

    def write(self, batch: SinkBatch) -> None:
        """Upsert the counts of a batch."""
        self._sink.add(Counter(item.value for item in batch))
        self._left -= batch.size
        if not self._left:
            end()


def counted(value: bytes) -> tuple[object, ...]:
    """What an event is counted by."""
    begin()
    return key(decode(value))


def main() -> None:
    """Run until it is ended."""
    app = Application(
        broker_address=ConnectionConfig.from_librdkafka_dict({"bootstrap.servers": given.kafka, **given.login}),
        consumer_group=given.group,
        auto_offset_reset="earliest",
        state_dir=given.data,
        commit_interval=1.0,
        loglevel="WARNING",
        # The same tuning as ours: by default a full queue makes the fetcher rest for a second.
        consumer_extra_config={"fetch.queue.backoff.ms": 2, "queued.max.messages.kbytes": 65_536},
        consumer_poll_timeout=0.05,
    )
    topic = app.topic(given.topic, value_deserializer="bytes", key_deserializer="bytes")
    app.dataframe(topic).apply(counted).sink(Counts())
    app.run()


main()
