"""The state of the events topic at one moment, from the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class PartitionSnapshot:
    """The progress of a partition, and the number of records that were ever counted and rejected."""

    next_offset: int
    counted: int
    rejected: int
    idle: bool
    """Whether its worker reports that it has read the partition to its end."""
    undeclared: int = 0
    """How many of the rejected records are of funnels that nobody has declared."""


@dataclass(frozen=True, slots=True)
class PipelineSnapshot:
    """The events topic at a time (ms, wall clock)."""

    now: int
    partitions: Mapping[int, PartitionSnapshot]
    expected: int
    """The number of partitions."""
