"""Rules about counters and timers: when they fire, resolve, and say nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from funnelwatch.alert_rules.loader import parse_rules
from funnelwatch.alert_rules.metrics import MetricRules
from funnelwatch.cli.rules import rules as command
from funnelwatch.schemas.codec import Encoder
from funnelwatch.stream.detector.metrics import MetricEvaluator, MetricSnapshot, finding
from funnelwatch.stream.detector.state import AlertState

if TYPE_CHECKING:
    from pathlib import Path

MINUTE = 60_000
T = 1_700_000_040_000


def rule(**fields: Any) -> MetricRules:
    """A rule about sms_sent as its file would make it."""
    written = {"alert": "Sms", "kind": "threshold", "metric": "sms_sent", **fields}
    lines = "\n        ".join(f"{name}: {value}" for name, value in written.items())
    [made] = parse_rules(f"groups:\n  - name: g\n    rules:\n      - {lines}\n")
    assert isinstance(made, MetricRules)
    return made


def look(
    value: float | None, samples: int = 100, before: float | None = None, samples_before: int = 100
) -> MetricSnapshot:
    """What it came to."""
    return MetricSnapshot({}, samples, value, samples_before if before is not None else 0, before)


@pytest.mark.parametrize(
    ("fields", "seen", "alarm", "recovered"),
    [
        ({"below": 10}, look(9), True, False),
        ({"below": 10}, look(10), False, True),
        ({"below": 10}, look(0, 0), True, False),
        ({"below": 10, "min_samples": 5}, look(0, 0), False, False),
        ({"above": 800, "value": "p90"}, look(801.0), True, False),
        ({"above": 800, "value": "p90"}, look(None, 0), False, False),
        ({"above": 800, "value": "p90", "min_samples": 20}, look(900.0, 19), False, False),
        ({"kind": "change", "drop": 0.5}, look(49, before=100.0), True, False),
        ({"kind": "change", "drop": 0.5}, look(50, before=100.0), False, True),
        ({"kind": "change", "drop": 0.5}, look(0, 0), False, False),
        ({"kind": "change", "rise": 0.5}, look(151, before=100.0), True, False),
        ({"kind": "change", "rise": 0.5, "min_samples": 50}, look(151, before=100.0, samples_before=49), False, False),
    ],
)
def test_a_value_is_on_the_wrong_side_on_the_right_one_or_unknown(
    fields: dict[str, Any], seen: MetricSnapshot, alarm: bool, recovered: bool
) -> None:
    """Limits themselves are right; too few samples say neither; no sample at all is a total of 0, and no quantile."""
    found = finding(rule(**fields), seen)
    assert (found.alarm, found.recovered, found.enough) == (alarm, recovered, alarm or recovered)


def test_each_series_fires_and_resolves_by_itself_and_outlives_a_restart() -> None:
    """One provider stops and comes back; the message says in a sentence what is wrong, and fits the schema."""
    evaluated = rule(below=10, by="[provider]", **{"for": "1m"})
    watch = MetricEvaluator([evaluated], [], MINUTE)
    said = []
    for number, stopped in enumerate([20, 3, 3, 3, 20]):
        looks = [MetricSnapshot({"provider": name}, value, value) for name, value in (("acme", stopped), ("other", 20))]
        moves = watch.observe(T + number * MINUTE, {"Sms": looks})
        said += [move.alert for move in moves if move.alert]
        states = [AlertState.from_json(state.to_json()) for state in watch.states.values()]
        watch = MetricEvaluator([evaluated], states, MINUTE)
    assert [(one["state"], one["reason"], one["sequence"]) for one in said] == [
        ("firing", "LIMIT_CROSSED", 0),
        ("resolved", "RECOVERED", 1),
    ]
    assert said[0]["dimensions"] == {"provider": "acme"}
    assert said[0]["window_end"] == T + 2 * MINUTE
    assert said[0]["annotations"]["summary"] == ("sms_sent provider=acme: total over 5 min is 3; the limit is 10")
    assert (said[0]["impressions"], said[0]["successes"], said[0]["basis"]) == (10, 3, "instrumentation")
    for one in said:
        Encoder("Alert")(one)


def test_what_can_no_longer_be_told_is_no_data_and_fires_on_when_it_can() -> None:
    """A timer without samples is neither over nor said again."""
    evaluated = rule(above=800, value="p90")
    watch = MetricEvaluator([evaluated], [], MINUTE)
    said = []
    for number, seen in enumerate([look(900.0), look(None, 0), look(950.0), look(100.0)]):
        moves = watch.observe(T + number * MINUTE, {"Sms": [seen]})
        said += [move.alert["state"] for move in moves if move.alert]
    assert said == ["firing", "resolved"]


def test_rules_about_counters_are_listed_in_words(tmp_path: Path) -> None:
    """What they are about, when they fire and what they tell apart."""
    path = tmp_path / "sms.yml"
    path.write_text(
        "groups: [{name: g, rules: [{alert: A, kind: threshold, metric: sms_sent, below: 10, by: [os]},"
        "{alert: B, kind: change, metric: sms_delivery, value: p90, rise: 0.5, offset: 1d, over: 10m}]}]"
    )
    result = CliRunner().invoke(command, ["list", str(path)])
    assert "total of sms_sent over 5 min below 10; by os" in result.output
    assert "p90 of sms_delivery over 10 min 50% higher than 24 h before; all together" in result.output
