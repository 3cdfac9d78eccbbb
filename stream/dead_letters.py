"""Refused records go to the dead letters: the original key and bytes, with headers that say why and where from.

| header | value |
|---|---|
| ``reason`` | a word: ``schemas.codec.Reason`` or ``stream.validation.Refusal`` |
| ``detail`` | a sentence |
| ``topic``, ``partition``, ``offset`` | where the record stands; together they identify it, however often it is sent |
| ``timestamp`` | Kafka's timestamp of the record, ms |
| ``truncated_from`` | only where the broker takes no value of that size: its bytes; only its beginning is kept |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, Message, Producer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.settings import Settings
    from stream.counting import Refused

KEPT_OF_TOO_LARGE = 65_536
"""Bytes that are kept of a value that the broker does not take."""

DELIVERY_TIMEOUT_S = 30.0

Headers = list[tuple[str, str | bytes | None]]
OnDelivery = Callable[[KafkaError | None, Message], None]


class DeadLetters:
    """Sends refused records, and returns when Kafka has them."""

    def __init__(self, settings: Settings) -> None:
        self._source = settings.events_topic
        self._topic = settings.dead_letters_topic
        self._producer = Producer(
            settings.kafka(
                **{
                    "client.id": "funnelwatch-dead-letters",
                    "enable.idempotence": True,
                    "linger.ms": 5,
                    "compression.type": "lz4",
                    # What the events topic let through is not refused on this side.
                    "message.max.bytes": 100_000_000,
                    "delivery.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
                }
            )
        )

    def send(self, partition: int, refused: Sequence[Refused]) -> None:
        """Send records of one partition; sending one again does no harm.

        Raises:
            KafkaException: not all of them were acknowledged; send all again.
        """
        failed: list[KafkaError] = []
        too_large: list[Refused] = []

        def on_delivery(letter: Refused) -> None:
            def delivered(error: KafkaError | None, _: Message) -> None:
                if error is None:
                    return
                if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    too_large.append(letter)
                else:
                    failed.append(error)

            self._produce(letter, letter.record.value, self._headers(partition, letter), delivered)

        for letter in refused:
            on_delivery(letter)
        self._flush(failed)

        def cut_delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error)

        for letter in too_large:
            value = letter.record.value or b""
            headers = [*self._headers(partition, letter), ("truncated_from", str(len(value)))]
            self._produce(letter, value[:KEPT_OF_TOO_LARGE], headers, cut_delivered)
        self._flush(failed)

    def _headers(self, partition: int, letter: Refused) -> Headers:
        return [
            ("reason", letter.reason),
            ("detail", letter.detail),
            ("topic", self._source),
            ("partition", str(partition)),
            ("offset", str(letter.record.offset)),
            ("timestamp", str(letter.record.timestamp)),
        ]

    def _produce(self, letter: Refused, value: bytes | None, headers: Headers, delivered: OnDelivery) -> None:
        while True:
            try:
                self._producer.produce(self._topic, value, letter.record.key, headers=headers, on_delivery=delivered)
            except BufferError:
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def _flush(self, failed: list[KafkaError]) -> None:
        left = self._producer.flush(DELIVERY_TIMEOUT_S + 5)
        if failed:
            raise KafkaException(failed[0])
        if left:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{left} dead letters are unacknowledged"))  # noqa: SLF001
