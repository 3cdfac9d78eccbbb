"""Windows by example; the properties are in tests/property."""

from __future__ import annotations

import pytest

from funnelwatch.schemas.times import last_closed, window_start


@pytest.mark.parametrize(
    ("ts", "start"),
    [(0, 0), (59_999, 0), (60_000, 60_000), (60_001, 60_000), (-1, -60_000), (-60_000, -60_000)],
)
def test_a_window_holds_its_start_and_not_its_end(ts: int, start: int) -> None:
    """Windows are half-open and cut time at whole multiples, before 1970 too."""
    assert window_start(ts, 60_000) == start


def test_a_window_closes_when_the_watermark_reaches_its_end() -> None:
    """``[0, 60000)`` is open at 59999 and closed at 60000."""
    assert last_closed(59_999, 60_000) == 0
    assert last_closed(60_000, 60_000) == 60_000
