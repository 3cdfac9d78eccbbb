"""Faust as its tutorial has it: an agent that counts event by event in a table with a changelog; a timer writes.

The window is part of the key: Faust's own windowed tables lose windows (see docs/benchmarks.md).
"""

from __future__ import annotations

import json
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
    topic_replication_factor=1,
    consumer_auto_offset_reset="earliest",
    web_enabled=False,
    stream_wait_empty=False,
    worker_redirect_stdouts=False,
)
events = app.topic(given.topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
counts = app.Table("counts", default=int, partitions=given.partitions)
sink = Sink(given.database)
changed: set[str] = set()
done = 0


@app.agent(events)
async def count(stream: Any) -> None:
    """Count events one by one."""
    global done  # noqa: PLW0603 - a program of one task
    async for value in stream:
        begin()
        place = json.dumps(key(decode(value)))
        counts[place] += 1
        changed.add(place)
        done += 1
        if done == given.events:
            write()
            end()


@app.timer(1.0)
async def write_changed() -> None:
    """Copy what has changed."""
    write()


def write() -> None:
    """Set the counts of what has changed."""
    sink.replace({tuple(json.loads(place)): counts[place] for place in changed})
    changed.clear()


if __name__ == "__main__":
    app.main()
