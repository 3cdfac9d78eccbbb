"""One loop flushes batches until the database has placed each: trimmed, rewound, or as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from funnelwatch.sinks.base import Flushed, MisplacedError
from funnelwatch.stream.aggregate.flushing import flush_until_placed
from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.polled_batch import PartitionAssignment

if TYPE_CHECKING:
    from collections.abc import Iterable

Counts = tuple[int, int, int]
"""Partition, first and next offset."""


class Progress:
    """A database that places batches of some partitions, each counted up to an offset."""

    def __init__(self, **counted: int) -> None:
        self.counted = {int(name[1:]): offset for name, offset in counted.items()}
        self.rewound: list[int] = []
        self.flushes: list[list[Counts]] = []

    def flush(self, topic_id: str, counts: list[Counts]) -> Flushed:
        """As the store does it: the first misplaced batch is an error, and nothing is written."""
        assert topic_id == "id"
        self.flushes.append(counts)
        for partition, start, _ in counts:
            expected = self.counted[partition]
            if start != expected:
                raise MisplacedError(partition, expected, start)
        return Flushed()

    def rewind(self, assigned: PartitionAssignment) -> None:
        """Note it."""
        self.rewound.append(assigned.partition)


def place(progress: Progress, batches: Iterable[Counts]) -> list[Counts] | None:
    """What was flushed in the end."""
    placed = flush_until_placed(
        [(PartitionAssignment(one[0], "id", 0, 0, SeenIds(0)), one) for one in batches],
        lambda batch, from_offset: (batch[0], max(batch[1], from_offset), batch[2]),
        progress.flush,
        progress.rewind,
    )
    return None if placed is None else sorted(counts for _, counts in placed.batches)


@pytest.mark.parametrize(
    ("counted", "flushed", "rewound"),
    [
        pytest.param({"p0": 10, "p1": 5}, [(0, 10, 20), (1, 5, 9)], [], id="both fit"),
        pytest.param({"p0": 15, "p1": 5}, [(0, 15, 20), (1, 5, 9)], [], id="another worker has counted a part of one"),
        pytest.param({"p0": 8, "p1": 5}, [(1, 5, 9)], [0], id="one lacks what is before it"),
        pytest.param({"p0": 15, "p1": 7}, [(0, 15, 20), (1, 7, 9)], [], id="a part of both is counted"),
        pytest.param({"p0": 8, "p1": 3}, None, [0, 1], id="both lack what is before them"),
    ],
)
def test_each_batch_is_flushed_from_the_offset_that_the_database_expects(
    counted: dict[str, int], flushed: list[Counts] | None, rewound: list[int]
) -> None:
    """A partition that must be read anew does not keep the others from being counted."""
    progress = Progress(**counted)
    assert place(progress, [(0, 10, 20), (1, 5, 9)]) == flushed
    assert progress.rewound == rewound


def test_nothing_to_flush_is_no_flush() -> None:
    """An empty poll costs no transaction."""
    progress = Progress()
    assert place(progress, []) is None
    assert progress.flushes == []
