"""The rule for thin funnels over the clickstream's counts: which windows suit it, and that the control stays silent."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

import funnelwatch.alert_rules
from funnelwatch.alert_rules.loader import load_rules
from funnelwatch.schemas.counts import ClosedWindow, CountRow, Series
from funnelwatch.stream.detector.detector import Detector
from tests.ecom import ecom_counts, ecom_path

HOUR_MS = 3_600_000
THIN = Path(funnelwatch.alert_rules.__file__).parent / "examples" / "thin.yml"


@pytest.mark.parametrize("hours", [6, 12, 24])
def test_thin_windows_tell_both_incidents_of_the_clickstream_and_nothing_else(hours: int) -> None:
    """The same two alerts, whether the day is cut into four windows, two or one."""
    window_ms = hours * HOUR_MS
    counts: dict[int, dict[Series, CountRow]] = {}
    for key, found in ecom_counts(ecom_path(), window_ms).items():
        tally = CountRow(*(found[name] for name in CountRow._fields))
        counts.setdefault(key.window_start, {})[Series.of("ecom", key.step, os=key.os)] = tally
    detector = Detector("ecom", load_rules(THIN), window_ms)
    begun = []
    for start in range(min(counts), max(counts) + 1, window_ms):
        for move in detector.observe(ClosedWindow("ecom", start, start + window_ms, 0, counts.get(start, {}))):
            if move.alert and move.alert["sequence"] == 0:
                at = datetime.fromtimestamp(start / 1000, tz=UTC).date().isoformat()
                # Told of the os itself, or of the step with the os that it is traced to: both say where.
                begun.append((move.alert["step"], move.alert["dimensions"].get("os") or move.alert["where_value"], at))

    assert [(step, where) for step, where, _ in begun] == [("shipping", "Mobile"), ("payment", "")]
    assert "2024-04-09" <= begun[0][2] <= "2024-05-09"
    assert "2024-05-19" <= begun[1][2] <= "2024-06-07"
