"""The lag that a worker tells of its partitions."""

from __future__ import annotations

from typing import Any, cast

import pytest

from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.offsets import lag_of
from funnelwatch.stream.intake.polled_batch import PartitionAssignment


class Log:
    """A consumer that knows where the log ends."""

    def get_watermark_offsets(self, partition: Any, *, cached: bool) -> tuple[int, int]:
        """It ends at 100."""
        assert cached
        return 0, 100


@pytest.mark.parametrize(("position", "lag"), [(10, 10), (90, 10), (95, 5), (100, 0), (101, 0)])
def test_records_that_are_read_again_for_ids_and_sessions_are_no_lag(position: int, lag: int) -> None:
    """Before offset 90 all is counted; a new owner reads it once more."""
    assigned = PartitionAssignment(0, "id", position, 90, SeenIds(0))
    assert lag_of(cast("Any", Log()), "events", [assigned]) == {0: lag}
