"""What Redis says of its own completeness, and what a write says to move that on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from funnelwatch.schemas.errors import FunnelwatchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.sinks.redis.keys import Mark

NOTHING_YET_MS = 2**53
"""From here on a copy is complete that has just begun."""


class IncompleteError(FunnelwatchError):
    """Redis has lost its data; nothing was written."""


class RepairedError(IncompleteError):
    """Counts were repaired since this writer knew all; nothing was written."""


class MoveMark(NamedTuple):
    """Moves the mark of a partition on.

    Attributes:
        partition: which.
        topic_id: Kafka's id of the topic.
        least: the mark may be this far behind; less means that the cache lacks something that nobody knows of.
        to: the counts up to here are in the cache after the write.
        owes: whether the worker has something left to copy.
    """

    partition: int
    topic_id: str
    least: int
    to: int
    owes: bool


@dataclass(frozen=True, slots=True)
class CacheState:
    """What Redis says of its own completeness.

    Attributes:
        epoch: names this life of the data; empty where it was lost.
        copies: how many copies of all recent windows were begun.
        copied: the number of the copy that ``whole_from`` is of, 0 where there is none of this epoch.
        whole_from: windows that start from here on (ms) are complete, but for what is owed.
        marks: partition to mark.
    """

    epoch: str
    copies: int
    copied: int
    whole_from: int
    marks: Mapping[int, Mark]

    @property
    def owes(self) -> bool:
        """Whether something was left out that the latest copy does not have."""
        return any(mark.owes is not None and mark.owes >= self.copied for mark in self.marks.values())

    def is_whole(self, from_ms: int) -> bool:
        """Whether every window that starts from here on, ms, is complete."""
        return bool(self.epoch) and not self.owes and self.whole_from <= from_ms
