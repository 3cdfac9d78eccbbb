"""Replays rejected records: produces them again once the cause of the rejection is fixed.

``funnelwatch.sinks.timescale.replays`` records a batch in a transaction that commits after Kafka has acknowledged the
batch. A crash in between rolls the record back, and the next replay produces the batch again: at least once. The same
``event_id`` then comes twice, and counts once within the duplicate horizon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.producers.kafka.acked import AckedProducer, Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.replays import ReplayStore
    from funnelwatch.stream.intake.dead_letter_log import DeadLetter, Place

LETTERS_AT_ONCE = 500
BYTES_AT_ONCE = 20_000_000
"""A batch is at most about this large, and at most this much is produced twice after a crash."""


def replay(settings: Settings, store: ReplayStore, letters: Iterable[DeadLetter]) -> Iterator[int]:
    """Produce the original keys and bytes of letters to their topic again; after each batch, how many were produced.

    Leaves out letters without a source and letters that any replay has produced before.

    Raises:
        KafkaException: Kafka has not acknowledged all of a batch; the batches before it are done.
        psycopg.Error: the database went away; the current batch counts as not replayed.
    """
    # The producer must take every record that the dead-letter topic has taken.
    producer = AckedProducer(settings, "funnelwatch-replay", properties={"message.max.bytes": 100_000_000})
    for batch in _batches(letters):
        places = {letter.source: letter for letter in batch if letter.source is not None}
        with store.claim(list(places)) as claimed:
            chosen = [letter for place, letter in places.items() if place in claimed]
            producer.publish(map(_message, chosen))
        yield len(chosen)


def _message(letter: DeadLetter) -> Message:
    assert letter.source is not None
    return Message(letter.source.topic, letter.key, letter.value, [("replay_of", _name(letter.source))])


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
