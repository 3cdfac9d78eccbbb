"""Every key that funnelwatch has in Redis.

| key | type | holds |
|---|---|---|
| ``{PREFIX}:epoch`` | string | names this life of the data; a server that lost its data has none |
| ``{PREFIX}:repairs`` | string | how often counts were repaired; totals of before a repair are rejected |
| ``{PREFIX}:copies`` | string | how many copies of all recent windows were begun |
| ``{PREFIX}:whole`` | string | epoch, number of the copy, and the start (ms) from which on every window is complete |
| ``{PREFIX}:copied:TOPIC`` | hash | partition to the mark up to which its counts are here (``Mark``) |
| ``{PREFIX}:probe`` | hash | empty, expires after a second: a test whether counts can be written |
| ``{PREFIX}:counts:FUNNEL:WINDOW`` | hash | the tallies of one window, WINDOW its start in ms |

A field of the last hash is the series and the count's name, JSON, so that no value of a dimension can be mistaken for
another; its value is the count.

The braces are part of the key: Redis Cluster keeps all keys with the same text in braces on one shard, so that one
script can use them together.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import NamedTuple

from funnelwatch.schemas.counts import Series

TALLY_FIELDS = ("impressions", "successes", "failures", "cohort_successes", "cohort_failures")


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
def field_names(dimensions: tuple[str, str, str, str]) -> tuple[str, ...]:
    """The field of each count of one series: of its step, os, browser and app version."""
    return tuple(json.dumps([*dimensions, name], separators=(",", ":")) for name in TALLY_FIELDS)


def parse_field(funnel: str, field: str) -> tuple[Series, str]:
    """The series and the count's name of a field."""
    step, os, browser, app_version, name = json.loads(field)
    return Series(funnel, step, os, browser, app_version), name
