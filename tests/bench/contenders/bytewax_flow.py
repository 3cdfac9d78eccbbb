"""Bytewax as its guide has it: ``KafkaSource``, ``map``, ``count_window`` by event time, a sink that writes a batch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import cluster_main
from work import Sink, begin, decode, end, key, task

given = task()


class Partition(StatelessSinkPartition[Any]):
    """Writes what windows close."""

    def __init__(self) -> None:
        self._sink = Sink(given.database)
        self._left = given.events

    def write_batch(self, items: list[Any]) -> None:
        """Upsert."""
        found: dict[Any, int] = {}
        for name, (_, count) in items:
            place = tuple(name.split("\x1f"))
            found[(int(place[0]), *place[1:])] = found.get((int(place[0]), *place[1:]), 0) + count
        self._sink.add(found)
        self._left -= sum(found.values())
        if not self._left:
            end()


class Counts(DynamicSink[Any]):
    """The table."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Partition:
        """The one partition."""
        return Partition()


def counted(message: KafkaSourceMessage[Any, Any]) -> tuple[datetime, str]:
    """Time and name of an event."""
    begin()
    event = decode(message.value)
    return datetime.fromtimestamp(event["ts"] / 1000, UTC), "\x1f".join(map(str, key(event)))


flow = Dataflow("bench")
messages = op.input(
    "in",
    flow,
    KafkaSource(
        [given.kafka],
        [given.topic],
        tail=False,
        batch_size=10_000,
        add_config={**given.login, "fetch.queue.backoff.ms": "2", "queued.max.messages.kbytes": "65536"},
    ),
)
events = op.map("decode", messages, counted)
clock = win.EventClock(lambda pair: pair[0], wait_for_system_duration=timedelta(hours=1))
windower = win.TumblingWindower(length=timedelta(minutes=1), align_to=datetime(2024, 1, 1, tzinfo=UTC))
counts = win.count_window("count", events, clock, windower, lambda pair: pair[1])
op.output("out", counts.down, Counts())

cluster_main(flow, [], 0)
