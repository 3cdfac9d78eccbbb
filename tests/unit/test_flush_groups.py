"""Several validated fetches are flushed at once where their partitions allow it."""

from __future__ import annotations

import numpy as np

from funnelwatch.stream.intake.batches import Events, ValidatedBatch
from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.polled_batch import PartitionAssignment, ValidatedPoll, flush_groups

NONE = np.zeros(0, np.int64)


def assigned(partition: int) -> PartitionAssignment:
    """An assignment of a partition."""
    return PartitionAssignment(partition, "id", 0, 0, SeenIds(0))


def fetch(*of: PartitionAssignment, start: int) -> ValidatedPoll:
    """A fetch with ten records of each of these partitions."""
    events = Events.of([])
    batches = [(one, ValidatedBatch(one.partition, start, start + 10, None, events, [], NONE)) for one in of]
    return ValidatedPoll(batches, [], newly_assigned=False, is_full=False, taken_s=0.0)


def shape(fetches: list[ValidatedPoll]) -> list[dict[int, list[int]]]:
    """Of each group, by partition, where its batches begin."""
    return [
        {one.partition: [batch.start_offset for batch in batches] for one, batches in group}
        for group in flush_groups(fetches)
    ]


def test_all_batches_of_an_assignment_go_together() -> None:
    """Whichever partitions a fetch has; a fetch without any is nothing."""
    a, b = assigned(0), assigned(1)
    fetches = [fetch(a, start=0), fetch(start=0), fetch(a, b, start=10), fetch(b, start=20)]
    assert shape(fetches) == [{0: [0, 10], 1: [10, 20]}]
    assert shape([fetch(start=0)]) == []


def test_a_partition_that_was_assigned_anew_begins_another_stretch() -> None:
    """Its offsets may begin before where the former assignment had got."""
    a, b, again = assigned(0), assigned(1), assigned(0)
    fetches = [fetch(a, b, start=0), fetch(b, again, start=5), fetch(b, again, start=15)]
    assert shape(fetches) == [{0: [0], 1: [0]}, {1: [5, 15], 0: [5, 15]}]
