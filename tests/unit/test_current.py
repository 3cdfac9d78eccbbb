"""The lines by which commands say whether figures are current."""

from __future__ import annotations

import pytest

from funnelwatch.cli.current import pipeline_line, warning
from funnelwatch.schemas.freshness import Freshness, Why
from funnelwatch.schemas.settings import Settings

OLD = "no window was closed for 3 min"


def test_a_database_that_is_away_makes_the_pipeline_unknown() -> None:
    """The line names the error instead of a traceback, and claims no health."""
    line = pipeline_line(Settings(timescale_url="postgresql://me@127.0.0.1:1/db"))
    assert line.startswith("unknown: ")
    assert "refused" in line
    assert "Traceback" not in line


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (Freshness("fresh", Why.FRESH, None, "all is well"), None),
        (Freshness("unknown", Why.NO_WINDOW, None, "no window was ever closed"), None),
        (Freshness("stale", Why.NOT_CLOSING, 0, OLD), f"! Alerts may be missing. {OLD}."),
        (Freshness("unknown", Why.UNREACHABLE, None, OLD), f"! Alerts may be missing. {OLD}."),
    ],
    ids=lambda one: str(one.why) if isinstance(one, Freshness) else "",
)
def test_only_figures_that_are_not_current_are_warned_about(found: Freshness, line: str | None) -> None:
    """Fresh figures and a funnel that never counted need no warning; stale and unknown ones have a line for stderr."""
    assert warning(found, "Alerts may be missing. ") == line
