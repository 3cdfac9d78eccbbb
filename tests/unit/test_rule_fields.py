"""The fields of an alert that texts of a rule may name."""

from __future__ import annotations

from funnelwatch.alert_rules.loader import parse_rules
from funnelwatch.alert_rules.model import Rules
from funnelwatch.alert_rules.silences import Silence
from funnelwatch.schemas.counts import ClosedWindow, CountRow, Series
from funnelwatch.stream.detector.detector import Detector

MINUTE_MS = 60_000
START = 1_700_000_040_000
RULE = """
groups:
- name: g
  rules:
  - alert: Low
    kind: threshold
    below: 0.9
    over: 1m
    maturity: 0s
    by: [[], [severity, country]]
    annotations: {summary: "{{ country }} {{ severity }} {{ scope }}"}
"""


def test_a_dimension_in_by_is_a_field_and_replaces_none() -> None:
    """Its value, or "any" where the alert is about all; a dimension called like a field leaves the field as it is."""
    rules = Rules(tuple(parse_rules(RULE)))
    low, fine = CountRow(100, 10, 90, 10, 90), CountRow(9_000, 9_000, 0, 9_000, 0)
    seen = []
    for of_others in (low, fine):
        detector = Detector("f", rules, MINUTE_MS, ("country", "severity"))
        shown = {
            Series.of("f", "A", country="DE", severity="high"): low,
            Series.of("f", "A", country="AT", severity="low"): of_others,
        }
        for number in range(3):
            start = START + number * MINUTE_MS
            moves = detector.observe(ClosedWindow("f", start, start + MINUTE_MS, 0, shown))
            seen += [move.alert["annotations"]["summary"] for move in moves if move.alert]
    assert seen == ["any warning all", "DE warning country=DE, severity=high"]


def test_a_dimension_that_is_called_like_a_matcher_is_matched_by_its_own_value() -> None:
    """A silence for the dimension rule=x is none for the rule x, and the other way round."""
    series = ("A", {"rule": "x"})
    assert Silence(1, 0, 10, dimensions={"rule": "x"}).covers("Drop", "f", series)
    assert Silence(1, 0, 10, rule="Drop", dimensions={"rule": "x"}).covers("Drop", "f", series)
    assert not Silence(1, 0, 10, rule="x").covers("Drop", "f", series)
