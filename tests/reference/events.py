"""The accepted events of a topic, read and decoded without any code of funnelwatch."""

from __future__ import annotations

import io
import json
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from fastavro import parse_schema, schemaless_reader
from fastavro.schema import fingerprint, to_parsing_canonical_form

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

SCHEMAS = Path(__file__).parents[2] / "schemas"
TIMEOUT_S = 30.0
AT_ONCE = 5_000
WAIT_S = 0.1

Place = tuple[int, int]
"""Partition and offset."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the topic.

    Attributes:
        log_time: Kafka's timestamp, or the reader's clock where that is earlier, ms.
    """

    partition: int
    offset: int
    log_time: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """One event, and where the log has it.

    Attributes:
        log_time: that of its record, ms.
        ts: when it happened, ms.
    """

    partition: int
    offset: int
    log_time: int
    event_id: str
    funnel: str
    session_id: str
    step: str
    os: str
    browser: str
    app_version: str
    phase: str
    status: str | None
    ts: int
    contexts: Mapping[str, str]


def records_of(kafka: Mapping[str, Any], topic: str) -> list[Record]:
    """Every record that a topic has now, by partition and offset.

    Args:
        kafka: properties of librdkafka by which Kafka is reached.
        topic: its name.
    """
    own = {
        "group.id": "session-reference",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
    }
    consumer = Consumer({**kafka, **own})
    found: list[Record] = []
    try:
        partitions = list(consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        ended: set[int | None] = set()
        while len(ended) < len(partitions):
            for message in consumer.consume(AT_ONCE, WAIT_S):
                error = message.error()
                if error is None:
                    found.append(_record(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                elif not error.retriable():
                    raise KafkaException(error)
    finally:
        consumer.close()
    return sorted(found, key=lambda record: (record.partition, record.offset))


def _record(message: Message) -> Record:
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    log_time = min(message.timestamp()[1], time.time_ns() // 1_000_000)
    return Record(partition, offset, log_time, message.value() or b"")


class Avro:
    """Decodes events of both framings by the ``.avsc`` files, and the schemas of a registry.

    Args:
        registry: address of a Confluent schema registry; empty without one.
    """

    def __init__(self, registry: str = "") -> None:
        self._registry = registry
        self._reader = _schema(json.loads((SCHEMAS / "funnel_event.avsc").read_text()))
        files = [SCHEMAS / "funnel_event.avsc", *SCHEMAS.glob("history/*/funnel_event.avsc")]
        self._by_fingerprint = {_fingerprint(schema): schema for schema in map(_schema_of_file, files)}
        self._by_id: dict[bytes, Any] = {}

    def __call__(self, value: bytes) -> dict[str, Any]:
        """The fields of an event."""
        if value[:2] == b"\xc3\x01":
            writer, body = self._by_fingerprint[value[2:10]], value[10:]
        else:
            assert value[:1] == b"\0", value[:10]
            writer, body = self._registered(value[1:5]), value[5:]
        event: Any = schemaless_reader(io.BytesIO(body), writer, self._reader)
        return dict(event)

    def _registered(self, number: bytes) -> Any:
        if number not in self._by_id:
            url = f"{self._registry}/schemas/ids/{int.from_bytes(number, 'big')}"
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
                self._by_id[number] = _schema(json.loads(json.load(answer)["schema"]))
        return self._by_id[number]


def _schema(written: Any) -> Any:
    """A schema whose times are read as whole milliseconds."""
    for one in written["fields"]:
        if isinstance(one["type"], dict):
            one["type"].pop("logicalType", None)
    return parse_schema(written)


def _schema_of_file(path: Path) -> Any:
    return _schema(json.loads(path.read_text()))


def _fingerprint(schema: Any) -> bytes:
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def accepted_events(
    records: Iterable[Record], decode: Avro, rejected: Collection[Place], duplicate_horizon_ms: int
) -> list[Event]:
    """The events that count: those of records that were not rejected, without duplicates.

    Args:
        records: by partition and offset.
        decode: their values.
        rejected: where the records stand that were rejected.
        duplicate_horizon_ms: an id repeated within this, by Kafka's timestamps, is a duplicate; 0: no id is.
    """
    kept = [record for record in records if (record.partition, record.offset) not in rejected]
    return list(without_duplicates(map(event_of, kept, map(decode, (one.value for one in kept))), duplicate_horizon_ms))


def event_of(record: Record, fields: Mapping[str, Any]) -> Event:
    """The event of a record with these fields."""
    return Event(
        record.partition,
        record.offset,
        record.log_time,
        fields["event_id"],
        fields["funnel"],
        fields["sign_up_session_id"],
        fields["step"],
        fields["os"],
        fields["browser"],
        fields["app_version"],
        fields["phase"],
        fields["status"],
        fields["ts"],
        fields["contexts"],
    )


def without_duplicates(events: Iterable[Event], horizon_ms: int) -> Iterator[Event]:
    """Events whose id does not stand anywhere in the horizon before them, as a duplicate or not."""
    last: dict[tuple[int, str], int] = {}
    for event in events:
        key = event.partition, event.event_id
        before = last.get(key)
        last[key] = event.log_time if before is None else max(before, event.log_time)
        if before is None or not horizon_ms or event.log_time - before > horizon_ms:
            yield event
