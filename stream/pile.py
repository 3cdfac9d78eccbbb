"""Messages of one partition as they are taken from librdkafka, until they are a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from stream.counting import Records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Message

    from schemas.page import Ints


class Pile:
    """What is taken of one assignment until the fetch is over.

    A list comprehension for each part of the messages is the fastest way that Python has to take them apart.

    Attributes:
        next_offset: the offset after the last one.
    """

    def __init__(self) -> None:
        self.next_offset = 0
        self._offsets: list[Ints] = []
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._timestamps: list[Ints] = []

    def add(self, messages: Sequence[Message], position: int) -> tuple[int, int]:
        """Add messages, leaving out what is before the position; how many they are, and the bytes of their values."""
        offsets = cast("list[int]", [one.offset() for one in messages])
        if offsets[0] < position or sorted(offsets) != offsets:
            # Some were on their way when the partition was set back.
            kept = []
            for message, offset in zip(messages, offsets, strict=True):
                if offset >= position:
                    kept.append(message)
                    position = offset + 1
            return self.add(kept, 0) if kept else (0, 0)
        self._offsets.append(np.array(offsets, np.int64))
        self._keys += [one.key() for one in messages]
        self._values += [one.value() for one in messages]
        self._timestamps.append(np.array([one.timestamp()[1] for one in messages], np.int64))
        self.next_offset = offsets[-1] + 1
        return len(offsets), sum(map(len, messages))

    def records(self) -> Records:
        """All of them."""
        offsets, timestamps = np.concatenate(self._offsets), np.concatenate(self._timestamps)
        return Records(offsets, self._keys, self._values, timestamps)
