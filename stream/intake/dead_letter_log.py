"""Reading the dead letters: what was rejected, why, where it stood, and whether it would be accepted now.

A letter can be in the topic more than once: it is sent before its batch is counted, so a crash in between sends it
again. The place of its record identifies it: topic, partition, offset, and the record's Kafka timestamp, since a
topic that is made again has the same offsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

from fastavro import schemaless_reader

from funnelwatch.schemas.codec import SINGLE_OBJECT, SINGLE_OBJECT_HEADER, Decoder, Registry, Undecodable
from funnelwatch.schemas.files import SCHEMAS, history, single_object_fingerprint
from funnelwatch.schemas.validation import Limits, RejectedError
from funnelwatch.stream.aggregate.metric_validator import MetricValidator
from funnelwatch.stream.intake.validator import EventValidator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from confluent_kafka import Message

    from funnelwatch.schemas.funnels import DeclaredFunnels
    from funnelwatch.schemas.settings import Settings

LATEST_MS = 253_402_300_800_000
"""The year 10000: no timestamp that we wrote."""


class Place(NamedTuple):
    """Where the rejected record stood; ``timestamp`` is its Kafka timestamp, ms."""

    topic: str
    partition: int
    offset: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter.

    Attributes:
        partition: of the dead-letter topic.
        offset: in the dead-letter topic.
        sent_ms: when it was sent, ms.
        reason: why, in a word.
        detail: why, in a sentence.
        source: where the rejected record stood; None where the headers do not say (not one of our letters).
        key: the record's key.
        value: the record's bytes, or their beginning.
        truncated_from: bytes of the record where only its beginning was kept, else None.
        headers: all headers, as they are.
    """

    partition: int
    offset: int
    sent_ms: int
    reason: str
    detail: str
    source: Place | None
    key: bytes | None
    value: bytes | None
    truncated_from: int | None
    headers: tuple[tuple[str, str], ...]


def parse_letter(message: Message) -> DeadLetter:
    """The letter in a message of the dead-letter topic; never raises, whatever the message holds."""
    given: Any = message.headers() or []
    headers = tuple((name, _text(value)) for name, value in given)
    named = dict(headers)
    truncated = named.get("truncated_from")
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return DeadLetter(
        partition=partition,
        offset=offset,
        sent_ms=message.timestamp()[1],
        reason=named.get("reason", "NO_REASON"),
        detail=named.get("detail", "not a letter of funnelwatch: it has no header 'reason'"),
        source=_place(named),
        key=message.key(),
        value=message.value(),
        truncated_from=None if truncated is None else _number(truncated) or 0,
        headers=headers,
    )


def unique(letters: Iterable[DeadLetter]) -> Iterator[DeadLetter]:
    """Letters without those that were sent again: the first of each place, and every one that names no place."""
    seen: set[Place] = set()
    for letter in letters:
        if letter.source is not None:
            if letter.source in seen:
                continue
            seen.add(letter.source)
        yield letter


def validator_of(settings: Settings, funnels: DeclaredFunnels) -> EventValidator:
    """The validator of a worker with these settings."""
    registry = Registry(settings.schema_registry_url) if settings.schema_registry_url else None
    return EventValidator(
        decode=Decoder("FunnelEvent", registry),
        funnels=funnels,
        limits=Limits.of(settings, funnels=funnels),
        max_value_bytes=settings.max_value_bytes,
    )


def metric_validator_of(settings: Settings) -> MetricValidator:
    """The same for a sample of a counter or timer; only the database knows whether there are too many of them."""
    registry = Registry(settings.schema_registry_url) if settings.schema_registry_url else None
    return MetricValidator(
        decode=Decoder("Metric", registry),
        limits=Limits.of(settings),
        max_value_bytes=settings.max_value_bytes,
    )


def rejection_now(validator: EventValidator | MetricValidator, letter: DeadLetter, now_ms: int) -> str | None:
    """Why the record would be rejected again; None: it would be accepted.

    Raises:
        funnelwatch.schemas.codec.RegistryUnavailable: that is not known now.
    """
    try:
        validator.event(letter.value, now_ms)
    except (Undecodable, RejectedError) as error:
        return str(error)
    return None


def decodable_fields(value: bytes | None) -> dict[str, Any]:
    """The fields at the beginning of bytes that are no whole event, up to the first that cannot be read.

    Only for single-object encoding with a schema that is known here. What is read of damaged bytes is a hint, not data.
    """
    fields: dict[str, Any] = {}
    if not value or value[:2] != SINGLE_OBJECT:
        return fields
    schemas = [version for name in ("FunnelEvent", "Metric") for version in (SCHEMAS[name], *history(name))]
    known = {single_object_fingerprint(one): one for one in schemas}
    schema = known.get(value[2:SINGLE_OBJECT_HEADER])
    body = BytesIO(value)
    body.seek(SINGLE_OBJECT_HEADER)
    for field in schema["fields"] if schema else ():
        try:
            fields[field["name"]] = schemaless_reader(body, field["type"], None)
        except Exception:  # noqa: BLE001 - garbage makes fastavro raise whatever its parts do
            break
    return fields


def _place(named: dict[str, str]) -> Place | None:
    topic = named.get("topic")
    numbers = [_number(named.get(name, "")) for name in ("partition", "offset", "timestamp")]
    partition, offset, timestamp = (-1 if number is None else number for number in numbers)
    if not topic or not 0 <= partition < 2**31 or not 0 <= offset < 2**63 or not 0 <= timestamp < LATEST_MS:
        return None
    return Place(topic, partition, offset, timestamp)


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value or ""
