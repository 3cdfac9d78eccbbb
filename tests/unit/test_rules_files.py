"""Rule files: each bad one is refused in words that help, and good ones make the rules they say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from alert_rules.loader import RuleFileError, load_rules, parse_rules
from alert_rules.model import ChangeRule, DropRule, ThresholdRule, parse_duration
from alert_rules.templates import render
from funnelwatch.cli.rules import rules as command

FIXTURES = Path(__file__).parents[1] / "fixtures" / "rules"
FAULTS = {
    "alert-missing": "4: alert: is missing; right would be a name of letters, digits and underscores",
    "alert-twice": "5: alert: Drop stands twice for funnel *; right would be a name of its own",
    "basis-unknown": "5: basis: input should be 'window' or 'cohort', not 'session'; right would be window or cohort",
    "braces-open": "6: annotations.summary: has braces that are not a placeholder; right would be a text with fields",
    "change-offset-too-long": "7: offset: is longer than the three weeks that are remembered; right would be",
    "drop-negative": "5: min_drop: input should be greater than or equal to 0, not -0.1; right would be a share of",
    "empty": "1: groups: is missing; right would be groups: [{name: sign_up, rules: [...]}]",
    "for-without-unit": "5: for: 5 is not a duration; right would be a duration such as 0s or 2m",
    "groups-missing": "1: groups: is missing; right would be groups:",
    "key-twice": '6: YAML: found duplicate key "score"',
    "level-twice": "5: by: the same level stands twice; right would be a list of dimensions (os, browser, app_version)",
    "min-impressions-text": "5: min_impressions: input should be a valid integer",
    "metric-dimension-unknown": "7: by.0: 'o-s' is not the name of a dimension; right would be a list of",
    "metric-kind-drop": "4: kind: 'drop' is not a kind of rule about a counter or timer; right would be threshold or",
    "metric-name-unknown": "6: metric: 'sms-sent' is not the name of a counter or timer; right would be the name of a",
    "metric-of-one-funnel": "7: funnel: is not what a counter or timer belongs to; right would be the name of a funnel",
    "metric-two-limits": "8: above: either this or below must be there, and not both; right would be a number; or",
    "metric-with-step": "7: step: is not a known field; right would be",
    "metric-without-limit": "4: above: either this or below must be there, and not both; right would be a number; or",
    "not-yaml": "5: YAML: expected ',' or ']'",
    "rule-not-a-map": "4: groups[0].rules[0]: is a text, not a map; right would be a map such as",
    "rules-empty": "3: groups[0].rules: is empty; right would be a list of rules",
    "score-zero": "5: score: input should be greater than 0, not 0; right would be a number above 0, such as 4.5",
    "severity-unknown": "5: severity: input should be 'info', 'warning' or 'critical', not 'page'; right would be info",
    "threshold-above-one": "6: below: input should be less than or equal to 1, not 60; right would be a rate from 0",
    "threshold-over-too-long": "7: over: is longer than the three weeks that are remembered; right would be",
    "threshold-without-below": "4: below: is missing; right would be a rate from 0 to 1, such as 0.6",
    "unknown-dimension": "5: by: 'city' is not a dimension; right would be a list of dimensions",
    "unknown-field": "5: min_dorp: is not a known field; right would be min_drop",
    "signal-missing": "4: signal: is missing; right would be impressions, dead_letters, silent or watermark",
    "signal-of-one-funnel": "6: funnel: is about the events topic, which all funnels share; right would be the name",
    "signal-unknown": "5: signal: 'lag' is not a signal; right would be impressions, dead_letters, silent or watermark",
    "signal-with-step": "6: step: is not a known field; right would be",
    "unknown-kind": "5: kind: 'spike' is not a kind of rule; right would be drop, threshold, change or instrumentation",
    "unknown-placeholder": "6: annotations.summary: {{ stepp }} is not a field of an alert; did you mean {{ step }}?",
}
GOOD = """
groups:
  - name: mine
    rules:
      - alert: A
        step: [VERIFY_SMS_CODE, INPUT_NAME]
        by: [[os, browser], [], [os]]
        for: 1h30m
      - alert: B
        kind: threshold
        funnel: shop
        below: 0.6
        by: [os]
      - alert: C
        kind: change
        drop: 0.2
        offset: 1d
        basis: cohort
"""


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.yml")), ids=lambda path: path.stem)
def test_a_bad_file_is_refused_with_line_field_fault_and_remedy(path: Path) -> None:
    """What a person reads names the place, what is wrong and what would be right."""
    with pytest.raises(RuleFileError) as caught:
        load_rules(path)

    assert str(caught.value).startswith(f"{path}:{FAULTS[path.stem]}"), str(caught.value)


def test_every_named_fault_has_its_file() -> None:
    """No expectation is left without a fixture."""
    assert sorted(FAULTS) == sorted(path.stem for path in FIXTURES.glob("*.yml"))


def test_a_good_file_makes_the_rules_it_says() -> None:
    """Kinds, levels in order from wide to narrow, steps and durations."""
    a, b, c = parse_rules(GOOD)

    assert isinstance(a, DropRule)
    assert isinstance(b, ThresholdRule)
    assert isinstance(c, ChangeRule)
    assert a.by == ((), ("os",), ("os", "browser"))
    assert (a.steps, a.for_ms, a.score) == (("VERIFY_SMS_CODE", "INPUT_NAME"), 5_400_000, 4.5)
    assert (b.below, b.by, b.funnel) == (0.6, (("os",),), "shop")
    assert (c.offset_ms, c.basis, c.judges("ANY")) == (86_400_000, "cohort", True)


STEPS = {"sign_up": ("INPUT_NAME", "VERIFY_SMS_CODE"), "shop": ("CART", "PAY")}


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (
            "step: VERIFY_SMS_CODES",
            "VERIFY_SMS_CODES is no step of a declared funnel; right would be VERIFY_SMS_CODE, or",
        ),
        ("step: [CART, PAID], funnel: shop", "PAID is no step of the funnel shop; right would be one of CART, PAY"),
        (
            "step: CART, funnel: sign_up",
            "CART is no step of the funnel sign_up; right would be one of INPUT_NAME, VERI",
        ),
    ],
)
def test_a_step_that_no_declared_funnel_has_is_a_fault(rule: str, fault: str) -> None:
    """A misspelt step would never fire, and nobody would know."""
    text = f"groups:\n- name: g\n  rules:\n  - alert: D\n    {rule.replace(', funnel', chr(10) + '    funnel')}\n"
    with pytest.raises(RuleFileError) as caught:
        parse_rules(text, "mine.yml", declared=STEPS)

    assert str(caught.value).startswith(f"mine.yml:5: step: {fault}"), str(caught.value)


@pytest.mark.parametrize(
    "rule", ["step: PAY", "step: all", "step: ANY, funnel: other", "funnel: shop, step: [CART, PAY]"]
)
def test_a_step_that_may_be_counted_is_no_fault(rule: str) -> None:
    """Of a declared funnel, or of one that nobody declared."""
    assert parse_rules(f"groups: [{{name: g, rules: [{{alert: D, {rule}}}]}}]", declared=STEPS)


def test_the_shipped_rules_hold_for_every_funnel() -> None:
    """Nobody has to write a rule to be told of a drop."""
    shipped = load_rules(None)

    assert [rule.alert for rule in shipped.of_funnel("a funnel nobody declared")] == ["ConversionDrop"]


def test_a_rule_that_names_a_funnel_replaces_the_general_one_of_the_same_name() -> None:
    """A team changes the score of its own funnel without being told twice."""
    text = "groups:\n- name: g\n  rules:\n  - {alert: D, score: 5}\n  - {alert: D, funnel: shop, score: 6}\n"
    rules = load_rules(None).__class__(tuple(parse_rules(text)))

    assert [rule.model_dump()["score"] for rule in rules.of_funnel("shop")] == [6]
    assert [rule.model_dump()["score"] for rule in rules.of_funnel("other")] == [5]


def test_the_version_follows_meaning_not_layout() -> None:
    """The same rule written otherwise has the same version; another score has another."""
    head = "groups:\n- name: g\n  rules:\n"
    plain, spelled, other = (
        parse_rules(head + rule)[0].version
        for rule in (
            "  - {alert: D}",
            "  - alert: D\n    score: 4.50 # as ever\n    for: 0s",
            "  - {alert: D, score: 5}",
        )
    )

    assert plain == spelled
    assert plain != other


@pytest.mark.parametrize("wrong", ["", "5", "m", "2x", "1.5h", "-1m", True, None, 3])
def test_what_is_no_duration_is_refused(wrong: object) -> None:
    """A number without a unit could be anything."""
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(wrong)


def test_a_template_fills_fields_and_executes_nothing() -> None:
    """Braces in a value stay what they are."""
    assert render("{{step}} at {{ rate }}", {"step": "{{ rate }}", "rate": "40.0%"}) == "{{ rate }} at 40.0%"


def test_check_says_each_fault_and_fails() -> None:
    """The command names the faults of every file on stderr and exits with 1."""
    result = CliRunner().invoke(command, ["check", str(FIXTURES / "unknown-field.yml"), str(FIXTURES / "empty.yml")])

    assert result.exit_code == 1
    assert "min_dorp: is not a known field" in result.stderr
    assert "groups: is missing" in result.stderr


def test_check_of_the_shipped_rules_is_clean_and_machine_readable() -> None:
    """With nothing given, the rules in use are checked."""
    result = CliRunner().invoke(command, ["check", "--json"])

    assert (result.exit_code, json.loads(result.stdout)) == (0, {"ok": True, "rules": 5, "faults": []})


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A pipe would be waited for, for ever."""
    os.mkfifo(tmp_path / "pipe.yml")
    with pytest.raises(RuleFileError, match=r"pipe\.yml: is no file"):
        load_rules(tmp_path)


def test_show_of_an_unknown_rule_names_the_known_ones() -> None:
    """A typing error is easily mended."""
    result = CliRunner().invoke(command, ["show", "ConversionDorp"])

    assert result.exit_code == 1
    assert "there are ConversionDrop" in result.stderr


def test_list_says_when_a_rule_fires() -> None:
    """A person reads the criterion and the scope."""
    result = CliRunner().invoke(command, ["list"])

    assert "a drop of at least 5% that scores above 4.5; funnel *, every step, all together and by os" in result.stdout
