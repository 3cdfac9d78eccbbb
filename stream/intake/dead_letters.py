"""Rejected records go to the dead letters: the original key and bytes, with headers that give reason and place.

| header | value |
|---|---|
| ``reason`` | a word: ``funnelwatch.schemas.codec.Reason`` or ``funnelwatch.schemas.validation.Rejection`` |
| ``detail`` | a sentence |
| ``topic``, ``partition``, ``offset`` | where the record stands; together they identify it, however often it is sent |
| ``timestamp`` | Kafka's timestamp of the record, ms |
| ``truncated_from`` | only where the broker takes no record of that size: the value's bytes; its beginning is kept |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, Message, Producer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.stream.intake.batches import Rejected

KEPT_OF_TOO_LARGE = (65_536, 1_024)
"""Bytes that are kept of a value and of a key where the broker does not take all of it; the less if that fails too."""

LONGEST_DETAIL = 1_000
"""Characters of a sentence about bytes that anybody may have written."""

DELIVERY_TIMEOUT_S = 30.0

Headers = list[tuple[str, str | bytes | None]]
OnDelivery = Callable[[KafkaError | None, Message], None]


class DeadLetters:
    """Sends rejected records of a topic, by default that of the events, and returns when Kafka has them."""

    def __init__(self, settings: Settings, source: str = "") -> None:
        self._source = source or settings.events_topic
        self._topic = settings.dead_letters_topic
        self._producer = Producer(
            settings.kafka(
                "producer",
                **{
                    "client.id": "funnelwatch-dead-letters",
                    "log_level": 0,
                    "enable.idempotence": True,
                    "linger.ms": 5,
                    "compression.type": "lz4",
                    # What the events topic let through is not rejected on this side.
                    "message.max.bytes": 500_000_000,
                    "delivery.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
                },
            )
        )

    def ask_kafka(self, timeout_s: float) -> None:
        """Return if Kafka answers this client. From any thread.

        Raises:
            KafkaException: it does not.
        """
        self._producer.list_topics(self._topic, timeout=timeout_s)

    def send(self, partition: int, rejected: Sequence[Rejected]) -> None:
        """Send records of one partition; sending one again does no harm.

        Raises:
            KafkaException: not all of them were acknowledged; send all again.
        """
        too_large = self._send(partition, rejected, None)
        # One large record makes the broker reject the whole of what was sent with it: now one by one, then less of it.
        for letter in too_large:
            for keep in (None, *KEPT_OF_TOO_LARGE):
                if not self._send(partition, [letter], keep):
                    break
            else:
                raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, f"{self._topic} takes no record at all"))

    def _send(self, partition: int, letters: Sequence[Rejected], keep: int | None) -> list[Rejected]:
        """Send letters, with at most ``keep`` bytes of their values and keys; those that are too large come back."""
        failed: list[KafkaError] = []
        too_large: list[Rejected] = []
        for letter in letters:

            def delivered(error: KafkaError | None, _: Message, letter: Rejected = letter) -> None:
                if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    too_large.append(letter)
                elif error is not None:
                    failed.append(error)

            value, key, headers = letter.record.value, letter.record.key, self._headers(partition, letter)
            if keep is not None and len(value or b"") > keep:
                headers.append(("truncated_from", str(len(value or b""))))
                value = (value or b"")[:keep]
            if keep is not None and len(key or b"") > keep:
                key = (key or b"")[:keep]
            self._produce(key, value, headers, delivered)
        left = self._producer.flush(DELIVERY_TIMEOUT_S + 5)
        if failed:
            raise KafkaException(failed[0])
        if left:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{left} dead letters are unacknowledged"))  # noqa: SLF001
        return too_large

    def _headers(self, partition: int, letter: Rejected) -> Headers:
        return [
            ("reason", letter.reason),
            ("detail", letter.detail[:LONGEST_DETAIL]),
            ("topic", self._source),
            ("partition", str(partition)),
            ("offset", str(letter.record.offset)),
            ("timestamp", str(letter.record.timestamp)),
        ]

    def _produce(self, key: bytes | None, value: bytes | None, headers: Headers, delivered: OnDelivery) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, key, headers=headers, on_delivery=delivered)
            except BufferError:
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return
