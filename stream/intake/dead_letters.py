"""Rejected records go to the dead letters: the original key and bytes, with headers that give reason and place.

| header | value |
|---|---|
| ``reason`` | a word: ``funnelwatch.schemas.codec.Reason`` or ``funnelwatch.schemas.validation.Rejection`` |
| ``detail`` | a sentence |
| ``topic``, ``partition``, ``offset`` | the record's place; together they identify it, however often it is sent |
| ``timestamp`` | Kafka's timestamp of the record, ms |
| ``truncated_from`` | only where the broker takes no record of that size: the value's bytes; its beginning is kept |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException

from funnelwatch.producers.kafka.acked import AckedProducer, Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.stream.intake.batches import Rejected

KEPT_OF_TOO_LARGE = (65_536, 1_024)
"""Bytes that are kept of a value and of a key where the broker does not take all of it; the less if that fails too."""

LONGEST_DETAIL = 1_000
"""Characters of a sentence about bytes that anybody may have written."""

Headers = list[tuple[str, str | bytes | None]]


class DeadLetters:
    """Sends rejected records of a topic, by default the events topic; returns once Kafka has acknowledged them."""

    def __init__(self, settings: Settings, source: str = "") -> None:
        self._source = source or settings.events_topic
        self._topic = settings.dead_letters_topic
        # The producer must take every record that the events topic has let through.
        self._producer = AckedProducer(
            settings, "funnelwatch-dead-letters", properties={"message.max.bytes": 500_000_000}
        )

    def ask_kafka(self, timeout_s: float) -> None:
        """Return if Kafka answers this client. From any thread.

        Raises:
            KafkaException: Kafka does not answer.
        """
        self._producer.ask_kafka(self._topic, timeout_s)

    def send(self, partition: int, rejected: Sequence[Rejected]) -> None:
        """Send records of one partition. Idempotent: readers identify a record by its topic, partition and offset.

        Raises:
            KafkaException: not all are acknowledged; send all again.
        """
        too_large = self._send(partition, rejected, None)
        # A broker rejects a whole batch because of one large record: send each alone, then less and less of it.
        for letter in too_large:
            for keep in (None, *KEPT_OF_TOO_LARGE):
                if not self._send(partition, [letter], keep):
                    break
            else:
                raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, f"{self._topic} takes no record"))

    def _send(self, partition: int, letters: Sequence[Rejected], keep: int | None) -> list[Rejected]:
        """Send letters with at most ``keep`` bytes of value and key; returns those that are too large for the broker.

        Raises:
            KafkaException: one is not acknowledged for another reason.
        """
        errors = self._producer.outcomes(self._message(partition, letter, keep) for letter in letters)
        too_large = []
        for letter, error in zip(letters, errors, strict=True):
            if error is not None and error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
                raise KafkaException(error)
            if error is not None:
                too_large.append(letter)
        return too_large

    def _message(self, partition: int, letter: Rejected, keep: int | None) -> Message:
        value, key, headers = letter.record.value, letter.record.key, self._headers(partition, letter)
        if keep is not None and len(value or b"") > keep:
            headers.append(("truncated_from", str(len(value or b""))))
            value = (value or b"")[:keep]
        if keep is not None and len(key or b"") > keep:
            key = (key or b"")[:keep]
        return Message(self._topic, key, value, headers)

    def _headers(self, partition: int, letter: Rejected) -> Headers:
        return [
            ("reason", letter.reason),
            ("detail", letter.detail[:LONGEST_DETAIL]),
            ("topic", self._source),
            ("partition", str(partition)),
            ("offset", str(letter.record.offset)),
            ("timestamp", str(letter.record.timestamp)),
        ]
