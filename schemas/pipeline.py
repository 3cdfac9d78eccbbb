"""The state of the events topic at one moment, as the database knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class PartitionSnapshot:
    """What is known of a partition: how far it is counted, and how many records were counted and rejected, ever."""

    next_offset: int
    counted: int
    rejected: int
    idle: bool
    """Read to its end, by its worker's word."""


@dataclass(frozen=True, slots=True)
class PipelineSnapshot:
    """The events topic at a time (ms, wall clock)."""

    now: int
    partitions: Mapping[int, PartitionSnapshot]
    expected: int
    """How many partitions the topic has."""
