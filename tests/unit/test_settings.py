"""Settings that only make sense together."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from funnelwatch.schemas.settings import Settings


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"max_age_days": 30, "keep_windows_days": 37},
        {"max_age_days": 30, "keep_windows_days": 40, "keep_5m_days": 40, "keep_1h_days": 400},
        {"keep_windows_days": 3657},
    ],
)
def test_rollups_that_outlive_windows_that_outlive_events_are_taken(kept: dict[str, int]) -> None:
    """0 is for ever."""
    assert Settings(**kept).keep_1d_days == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ({"keep_windows_days": 90}, r"KEEP_WINDOWS_DAYS is 90, .*MAX_AGE_DAYS, 3650, .* keep windows for 3657 days at"),
        ({"max_age_days": 30, "keep_windows_days": 36}, r"keep windows for 37 days at least"),
        ({"max_age_days": 1, "keep_windows_days": 90, "keep_5m_days": 60}, r"KEEP_5M_DAYS is 60, .*for 90 days"),
        ({"keep_5m_days": 60}, r"KEEP_5M_DAYS is 60, but FUNNELWATCH_KEEP_WINDOWS_DAYS .* for ever"),
        ({"keep_1d_days": 60}, r"KEEP_1D_DAYS is 60, but FUNNELWATCH_KEEP_1H_DAYS .* for ever"),
    ],
)
def test_a_level_that_would_be_dropped_too_early_is_rejected_in_a_sentence(kept: dict[str, int], told: str) -> None:
    """Late events would be added to nothing, or a rollup be gone before what it is made of."""
    with pytest.raises(ValidationError, match=told):
        Settings(**kept)  # type: ignore[arg-type]
