"""Which buckets are materialized again together."""

from __future__ import annotations

import pytest

from funnelwatch.sinks.timescale.materializing import spans


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ([], []),
        ([50], [(50, 60)]),
        ([0, 10, 20], [(0, 30)]),
        ([0, 20, 30], [(0, 10), (20, 40)]),
        ([0, 10, 20, 30, 40, 50], [(0, 30), (30, 60)]),
    ],
)
def test_neighbours_are_written_together_and_not_too_many(buckets: list[int], expected: list[tuple[int, int]]) -> None:
    """Buckets of 10 ms, at most 30 ms of them in one piece."""
    assert list(spans(buckets, 10, 30)) == expected
