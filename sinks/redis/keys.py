"""Every key that funnelwatch has in Redis.

| key | type | holds |
|---|---|---|
| ``{PREFIX}:epoch`` | string | names this life of the data; a server that lost its data has none |
| ``{PREFIX}:repairs`` | string | how often counts were repaired; totals of before a repair are rejected |
| ``{PREFIX}:copies`` | string | how many copies of all recent windows were begun |
| ``{PREFIX}:whole`` | string | epoch, number of the copy, and the start (ms) from which on every window is complete |
| ``{PREFIX}:copied:TOPIC`` | hash | partition to the mark up to which its counts are here (``Mark``) |
| ``{PREFIX}:probe`` | hash | empty, expires after a second: a test whether counts can be written |
| ``{PREFIX}:counts:FUNNEL:WINDOW`` | hash | the counts of one window, WINDOW its start in ms |

A field of the last hash is a series in JSON: its step, and its dimensions sorted by name. Its value is
the packed counts of the series, 4 bytes each, the most significant first, in the order of a ``CountRow``.

The braces are part of the key: Redis Cluster keeps all keys with the same text in braces on one shard, so that one
script can use them together.
"""

from __future__ import annotations

import json
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from funnelwatch.schemas.counts import CountRow, Series

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKED: Final = struct.Struct(f">{len(CountRow._fields)}i")


class Mark(NamedTuple):
    """How far the counts of a partition are in the cache.

    Attributes:
        topic_id: Kafka's id of the topic.
        offset: the counts up to here are in the cache, but for what is owed.
        owes: None where nothing is; else how many copies of everything were begun when something was left out: a copy
            with a higher number has it.
    """

    topic_id: str
    offset: int
    owes: int | None = None

    @classmethod
    def parsed(cls, text: str) -> Mark:
        """From the form that it has in Redis: topic id and offset, then ``~`` and the number where it owes."""
        topic_id, offset, *owes = text.split(" ")
        return cls(topic_id, int(offset), int(owes[0].removeprefix("~")) if owes else None)

    def __str__(self) -> str:
        """The form that it has in Redis."""
        return f"{self.topic_id} {self.offset}" + ("" if self.owes is None else f" ~{self.owes}")


def _tag(prefix: str) -> str:
    return f"{{{prefix}}}"


def epoch_key(prefix: str) -> str:
    """The key that names this life of the data."""
    return f"{_tag(prefix)}:epoch"


def repairs_key(prefix: str) -> str:
    """The key with the number of repairs."""
    return f"{_tag(prefix)}:repairs"


def copies_key(prefix: str) -> str:
    """The key that counts the copies of all recent windows."""
    return f"{_tag(prefix)}:copies"


def whole_key(prefix: str) -> str:
    """The key with the time from which windows are complete."""
    return f"{_tag(prefix)}:whole"


def copied_key(prefix: str, topic: str) -> str:
    """The key of the marks of a topic's partitions."""
    return f"{_tag(prefix)}:copied:{topic}"


def probe_key(prefix: str) -> str:
    """The key that tries whether counts can be written."""
    return f"{_tag(prefix)}:probe"


def counts_key(prefix: str, funnel: str, window_ms: int) -> str:
    """The key of one window of one funnel."""
    return f"{_tag(prefix)}:counts:{funnel}:{window_ms}"


def counts_pattern(prefix: str) -> str:
    """A pattern that matches every window of every funnel."""
    return f"{_tag(prefix)}:counts:*"


@lru_cache(maxsize=50_000)
def field_name(series: Series) -> str:
    """The field of a series in the hashes of its funnel."""
    return json.dumps([series.step, dict(series.dimensions)], separators=(",", ":"))


def parse_field(funnel: str, field: str) -> Series:
    """The series of a field."""
    step, dimensions = json.loads(field)
    return Series(funnel, step, tuple(dimensions.items()))


def packed(row: Sequence[int]) -> bytes:
    """Counts as the value of a field."""
    return PACKED.pack(*row)


def unpacked(value: bytes) -> CountRow:
    """The counts of the value of a field."""
    return CountRow(*PACKED.unpack(value))
