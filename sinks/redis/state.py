"""What Redis records about its own completeness, and how a write updates that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from funnelwatch.schemas.errors import FunnelwatchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.sinks.redis.keys import Mark

NOTHING_YET_MS = 2**53
"""A copy that has just begun is complete from here on: it has no window yet."""


class IncompleteError(FunnelwatchError):
    """Redis has lost its data; nothing was written."""


class RepairedError(IncompleteError):
    """Counts were repaired since this writer knew all; nothing was written."""


class MoveMark(NamedTuple):
    """Moves the mark of a partition on.

    Attributes:
        partition: which.
        topic_id: Kafka's id of the topic.
        least: the mark may be this far behind; an earlier mark means that the cache lacks totals unknowingly.
        to: after the write the cache has the counts up to this offset.
        owes: whether the worker has windows left to copy.
    """

    partition: int
    topic_id: str
    least: int
    to: int
    owes: bool


@dataclass(frozen=True, slots=True)
class CacheState:
    """What Redis records about its own completeness.

    Attributes:
        epoch: names the data since it was last lost; empty where it is lost now.
        copies: the number of copies of all recent windows that were begun.
        copied: the number of the copy to which ``whole_from`` belongs, 0 where this epoch has none.
        whole_from: windows that start from here on (ms) are complete, except windows that are left to copy.
        marks: partition to mark.
    """

    epoch: str
    copies: int
    copied: int
    whole_from: int
    marks: Mapping[int, Mark]

    @property
    def owes(self) -> bool:
        """Whether a worker left windows out that the latest copy does not have."""
        return any(mark.owes is not None and mark.owes >= self.copied for mark in self.marks.values())

    def is_whole(self, from_ms: int) -> bool:
        """Whether every window that starts at or after ``from_ms`` is complete."""
        return bool(self.epoch) and not self.owes and self.whole_from <= from_ms
