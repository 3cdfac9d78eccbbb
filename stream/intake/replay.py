"""Producing rejected records again, once what made them rejected is mended.

A batch is remembered (``funnelwatch.sinks.timescale.replays``) in a transaction that commits after Kafka accepted the
batch. A crash in between forgets it, so that the next replay produces it again: at least once. Then the same
``event_id`` comes twice, and within the duplicate horizon it is counted once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from funnelwatch.producers.kafka.clients import producer_properties

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.replays import ReplayStore
    from funnelwatch.stream.intake.dead_letter_log import DeadLetter, Place

LETTERS_AT_ONCE = 500
BYTES_AT_ONCE = 20_000_000
"""A batch is at most about this large, and at most this much is produced twice after a crash."""

DELIVERY_TIMEOUT_S = 30.0
TIMED_OUT = KafkaError._TIMED_OUT  # noqa: SLF001 - it has no other name


def replay(settings: Settings, store: ReplayStore, letters: Iterable[DeadLetter]) -> Iterator[int]:
    """Produce the original keys and bytes of letters to their topic again; after each batch, how many were produced.

    Letters that were replayed already, by whomever, are left out; so are those without a source.

    Raises:
        KafkaException: not all of a batch was acknowledged; the batches before it are done.
        psycopg.Error: the database went away; the batch in hand counts as not replayed.
    """
    producer = Producer(
        {
            **producer_properties(settings, 2 * LETTERS_AT_ONCE, DELIVERY_TIMEOUT_S),
            "client.id": "funnelwatch-replay",
            # What the dead-letter topic has taken is not rejected on this side.
            "message.max.bytes": 100_000_000,
            # Deliveries that fail report errors.
            "log_level": 0,
            "error_cb": lambda error: None,
        }
    )
    for batch in _batches(letters):
        places = {letter.source: letter for letter in batch if letter.source is not None}
        with store.claim(list(places)) as claimed:
            chosen = [letter for place, letter in places.items() if place in claimed]
            _produce(producer, chosen)
        yield len(chosen)


def _produce(producer: Producer, letters: Sequence[DeadLetter]) -> None:
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    for letter in letters:
        assert letter.source is not None
        headers: list[tuple[str, str | bytes | None]] = [("replay_of", _name(letter.source))]
        producer.produce(letter.source.topic, letter.value, letter.key, headers=headers, on_delivery=delivered)
    left = producer.flush(DELIVERY_TIMEOUT_S + 5)
    if failed or left:
        raise KafkaException(failed[0] if failed else KafkaError(TIMED_OUT, f"{left} records are unacknowledged"))


def _name(place: Place) -> str:
    return f"{place.topic}:{place.partition}:{place.offset}"


def _batches(letters: Iterable[DeadLetter]) -> Iterator[list[DeadLetter]]:
    batch: list[DeadLetter] = []
    size = 0
    for letter in letters:
        batch.append(letter)
        size += len(letter.value or b"")
        if len(batch) >= LETTERS_AT_ONCE or size >= BYTES_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
