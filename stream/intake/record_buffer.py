"""Messages of one partition as they are taken from librdkafka, until they are a batch."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
from confluent_kafka import Message

from funnelwatch.stream.intake.validator import Records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.schemas.page import Ints


MS = itemgetter(1)
"""Of a message's timestamp; the other half says whose clock it is."""


class RecordBuffer:
    """What is taken of one assignment until the fetch is over.

    To map a method of ``Message`` is the fastest way that Python has to take them apart.

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
        count = len(messages)
        offsets = np.fromiter(map(Message.offset, messages), np.int64, count)
        if offsets[0] < position or (offsets[1:] < offsets[:-1]).any():
            # Some were on their way when the partition was set back.
            kept = []
            for message, offset in zip(messages, offsets.tolist(), strict=True):
                if offset >= position:
                    kept.append(message)
                    position = offset + 1
            return self.add(kept, 0) if kept else (0, 0)
        self._offsets.append(offsets)
        self._keys.extend(map(Message.key, messages))
        self._values.extend(map(Message.value, messages))
        self._timestamps.append(np.fromiter(map(MS, map(Message.timestamp, messages)), np.int64, count))
        self.next_offset = int(offsets[-1]) + 1
        return count, sum(map(len, messages))

    def records(self) -> Records:
        """All of them."""
        offsets, timestamps = np.concatenate(self._offsets), np.concatenate(self._timestamps)
        return Records(offsets, self._keys, self._values, timestamps)
