"""Reads and sets how far partitions are counted, for a person whose topic was recreated or trimmed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.sinks.timescale.database import Database


class Standing(StrEnum):
    """The position of a partition's progress relative to its log."""

    IN_ORDER = "in order"
    OTHER_TOPIC = "of another topic of this name"
    BEFORE_THE_LOG = "before the beginning of the log"
    BEYOND_THE_LOG = "beyond the end of the log"
    NO_LOG = "of a partition that the topic does not have"


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """A partition's progress by the database, and its log ``[beginning, end)`` by Kafka."""

    partition: int
    topic_id: str
    next_offset: int
    beginning: int
    end: int
    standing: Standing

    @property
    def lost(self) -> int:
        """Records that were trimmed before they were counted."""
        return self.beginning - self.next_offset if self.standing is Standing.BEFORE_THE_LOG else 0


def stand(topic_id: str, progress: tuple[str, int], log: tuple[int, int] | None) -> Standing:
    """The position of a partition's progress relative to its log.

    Args:
        topic_id: Kafka's id of the topic that is there now.
        progress: topic id and next offset by the database.
        log: beginning and end (exclusive) of the partition; None where the topic does not have it.
    """
    counted_topic, next_offset = progress
    if log is None:
        return Standing.NO_LOG
    if counted_topic != topic_id:
        return Standing.OTHER_TOPIC
    beginning, end = log
    if next_offset < beginning:
        return Standing.BEFORE_THE_LOG
    return Standing.BEYOND_THE_LOG if next_offset > end else Standing.IN_ORDER


class ProgressStore:
    """Reads and sets the progress; for one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, topic: str) -> Mapping[int, tuple[str, int]]:
        """Partition to topic id and next offset; empty where nothing was ever counted."""
        rows = self._database.query("topic_progress", {"topic": topic})
        return {row["partition"]: (row["topic_id"], row["next_offset"]) for row in rows}

    def set(self, topic: str, topic_id: str, seen: PartitionProgress, next_offset: int) -> bool:
        """Set where a partition is counted up to; its counts stay as they are.

        Returns:
            False if it has moved since ``seen``; then nothing is written.
        """
        parameters = {
            "topic": topic,
            "topic_id": topic_id,
            "partition": seen.partition,
            "next_offset": next_offset,
            "seen_topic_id": seen.topic_id,
            "seen_next_offset": seen.next_offset,
        }
        return bool(self._database.query("reset_progress", parameters))
