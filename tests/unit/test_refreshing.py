"""A range of a rollup in pieces, and what `doctor` tells of how long counts are kept."""

from __future__ import annotations

from itertools import pairwise

import pytest

from funnelwatch.cli.doctor_database import retention_findings
from funnelwatch.schemas.settings import Settings
from funnelwatch.schemas.times import DAY_MS, HOUR_MS
from funnelwatch.sinks.timescale.refreshing import REFRESHES, Refresh, pieces
from funnelwatch.sinks.timescale.retention import LEVELS, Kept

FIVE, HOUR, DAY = (REFRESHES[level] for level in ("5m", "1h", "1d"))
NOW = 20_000 * DAY_MS + 12 * HOUR_MS + 7


@pytest.mark.parametrize("plan", [FIVE, HOUR, DAY])
@pytest.mark.parametrize("start", [None, NOW - 400 * DAY_MS - 3, NOW - 5 * DAY_MS])
@pytest.mark.parametrize("first", [None, NOW - 1000 * DAY_MS, NOW - 300 * DAY_MS, NOW])
def test_pieces_cover_the_range_in_whole_buckets_without_a_gap(
    plan: Refresh, start: int | None, first: int | None
) -> None:
    """Each begins where the one before it ended; none is longer than it may be where there is anything."""
    found = list(pieces(start, NOW, first, plan))
    assert found[0][0] == (start if start is None else start + -start % plan.width_ms)
    assert found[-1][1] == NOW - NOW % plan.width_ms
    for (_, end), (begin, _) in pairwise(found):
        assert begin == end
        assert begin % plan.width_ms == 0
    for begin, end in found[1:]:
        assert begin is not None
        assert plan.width_ms <= end - begin <= plan.piece_ms


def test_a_range_without_a_whole_bucket_has_no_pieces() -> None:
    """The extension would refuse to refresh it."""
    assert list(pieces(NOW - HOUR_MS, NOW, None, DAY)) == []
    assert list(pieces(NOW + DAY_MS, NOW, None, HOUR)) == []


def test_doctor_warns_of_settings_that_differ_from_what_is_kept() -> None:
    """It names each, and says who decides and that nothing comes back."""
    settings = Settings(max_age_days=3, keep_windows_days=30)
    kept = dict(zip(LEVELS, (Kept(0, NOW), Kept(60, None), Kept(0, None), Kept(0, None)), strict=True))
    [found] = retention_findings(settings, kept)
    assert found.level == "warning"
    assert "FUNNELWATCH_KEEP_WINDOWS_DAYS is 30 here, but the database keeps windows for ever" in found.message
    assert "FUNNELWATCH_KEEP_5M_DAYS is 0 here, but the database keeps 5m for 60 days" in found.message
    assert "starts last decides for all" in found.advice


def test_doctor_tells_what_is_kept_and_what_is_gone() -> None:
    """The moment before which something is dropped is named as well."""
    kept = dict(zip(LEVELS, (Kept(30, NOW), Kept(0, None), Kept(0, None), Kept(0, None)), strict=True))
    [found] = retention_findings(Settings(max_age_days=3, keep_windows_days=30), kept)
    assert found.level == "ok"
    assert found.message.startswith("windows for 30 days (before 2024-10-04T12:00:00Z some are dropped), 5m for ever")
