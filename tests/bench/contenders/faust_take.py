"""Faust as its guide has it for sinks: raw values, ``stream.take``, one upsert a batch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import faust
from work import Sink, begin, decode, end, faust_login, key, task

given = task()
app = faust.App(
    given.group,
    broker=f"kafka://{given.kafka}",
    broker_credentials=faust_login(given),
    store="memory://",
    datadir=given.data,
    topic_disable_leader=True,
    topic_partitions=given.partitions,
    consumer_auto_offset_reset="earliest",
    web_enabled=False,
    stream_wait_empty=False,
    worker_redirect_stdouts=False,
)
events = app.topic(given.topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
sink = Sink(given.database)


@app.agent(events)
async def count(stream: Any) -> None:
    """Count batches."""
    left = given.events
    async for values in stream.take(5_000, within=0.3):
        begin()
        sink.add(Counter(key(decode(value)) for value in values))
        left -= len(values)
        if not left:
            end()


if __name__ == "__main__":
    app.main()
