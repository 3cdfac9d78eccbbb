"""Rule files: each bad one is rejected in words that help, and good ones make the rules they say."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from funnelwatch.alert_rules.loader import RuleFileError, load_rules, parse_rules
from funnelwatch.alert_rules.model import ChangeRule, DropRule, ThresholdRule, parse_duration
from funnelwatch.alert_rules.templates import render
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
    "alert-number": "4: alert: input should be a text, not 5; right would be a name of letters, digits and underscore",
    "alert-watchdog": "4: alert: Watchdog is the name of the alerting's own heartbeat; right would be a name of lette",
    "alert-with-space": "4: alert: string should match pattern '^[A-Za-z_][A-Za-z0-9_]*$', not 'Conversion Drop'; rig",
    "annotation-also-at": "5: annotations.also_at: is set by the alert itself, to the other steps of an incident; ano",
    "annotation-dashboard": "5: annotations.dashboard: is set by the alert itself, to the link that FUNNELWATCH_GRAFA",
    "annotation-empty": "6: annotations.summary: is empty, which is the same as not being there; right would be a tex",
    "basis-list": "5: basis: input should be 'window' or 'cohort', not ['window']; right would be window or cohort",
    "by-a-text": "5: by: input should be a list, not 'os'; right would be a list of dimensions (os, browser, app_vers",
    "by-empty": "5: by: is empty; everything together is [[]], or no by; right would be a list of dimensions (os, bro",
    "by-mixed": "5: by.0.1: input should be a text, not ['os', ['browser']]; right would be a list of dimensions (os,",
    "by-null": "5: by: input should be a list, not None; right would be a list of dimensions (os, browser, app_versio",
    "change-drop-infinite": "6: drop: inf is no number that anything can be compared with; right would be a share of ",
    "dimension-twice": "5: by: a dimension stands twice in ['os', 'os']; right would be a list of dimensions (os, bro",
    "document-a-list": "1: groups: is missing; right would be groups: [{name: sign_up, rules: [...]}]",
    "documents-two": "2: YAML: but found another document; right would be well-formed YAML with each key once",
    "field-a-number": "5: 1: is not a known field; right would be one of alert, annotations, baseline, basis, by, for",
    "for-negative": "5: for: '-5m' is not a duration; right would be a duration such as 0s or 2m",
    "for-null": "5: for: None is not a duration; right would be a duration such as 0s or 2m",
    "for-too-long": "5: for: '400d' is longer than a year; right would be a duration such as 0s or 2m",
    "for-unit-twice": "5: for: '5m5m' is not a duration; right would be a duration such as 0s or 2m",
    "for-units-out-of-order": "5: for: '5m1h' is not a duration; right would be a duration such as 0s or 2m",
    "funnel-a-list": "5: funnel: input should be a text, not ['sign_up']; right would be the name of a funnel, or '*'",
    "funnel-empty": "5: funnel: '' is empty; right would be the name of a funnel, or '*' for every funnel",
    "funnel-with-space": "5: funnel: ' sign_up' begins or ends with a space, and would match nothing; right would be ",
    "group-a-text": "2: groups[0]: is a text, not a map; right would be a map with name, rules",
    "group-name-empty": "2: groups[0].name: is empty; right would be a name of its own, such as sign_up",
    "group-name-number": "2: groups[0].name: is a number, not a text; right would be a name of its own, such as sign_",
    "group-twice": "5: groups[1].name: g stands twice; right would be a name of its own, such as sign_up",
    "group-unknown-field": "3: groups[0].interval: is not a known field; right would be one of name, rules",
    "groups-a-map": "1: groups: is a map, not a list; right would be groups: [{name: sign_up, rules: [...]}]",
    "groups-empty": "1: groups: is empty; right would be groups: [{name: sign_up, rules: [...]}]",
    "label-alert-id": "5: labels.alert_id: is set by the alert itself, to the alert's id; another name is yours; righ",
    "label-alertname": "5: labels.alertname: is set by the alert itself, to the rule's name; another name is yours; r",
    "label-empty": "5: labels.team: is empty, which is the same as not being there; right would be a map of names of ",
    "label-funnel": "5: labels.funnel: is set by the alert itself, to the funnel that is judged; another name is your",
    "label-key-twice": '7: YAML: found duplicate key "team"; right would be well-formed YAML with each key once',
    "label-name-no-name": "5: labels.team-name: is not a name of letters, digits and underscores; right would be a ma",
    "label-number": "5: labels.tier: input should be a text, not {'tier': 1}; right would be a map of names of your o",
    "label-os": "5: labels.os: is set by the alert itself, to the os that is judged; another name is yours; right wou",
    "label-severity": "6: labels.severity: is set by the alert itself, to the rule's own severity, which stands besid",
    "label-state": "5: labels.state: is set by the alert itself, to the alert's state; another name is yours; right w",
    "label-step": "5: labels.step: is set by the alert itself, to the step that is judged; another name is yours; rig",
    "labels-a-list": "5: labels: input should be a map, not ['team']; right would be a map of names of your own to te",
    "metric-above-infinite": "7: above: inf is no number that anything can be compared with; right would be a number;",
    "metric-below-negative": "7: below: input should be greater than 0, not -1; right would be a number above 0, such",
    "metric-below-zero": "7: below: input should be greater than 0, not 0; right would be a number above 0, such as 1",
    "metric-by-empty": "8: by: is empty, which is not the same as leaving it out; right would be a list of dimensions",
    "metric-by-twice": "8: by: os stands twice; right would be a list of dimensions that are judged apart, such as [o",
    "metric-label-of-by": "9: labels: country is a dimension of by, and the alert sets it itself; right would be a ma",
    "metric-min-samples-text": "8: min_samples: input should be a valid integer, not 'many'; right would be how many ",
    "metric-rise-nan": "7: rise: nan is no number that anything can be compared with; right would be a share of the e",
    "metric-where-empty-value": "8: where.os: '' is empty; right would be a map of dimensions to the values that are ",
    "metric-where-number": "9: where.version: input should be a text, not {'version': 5}; right would be a map of dim",
    "min-drop-nan": "5: min_drop: nan is no number that anything can be compared with; right would be a share of the ",
    "min-impressions-fraction": "5: min_impressions: input should be a valid integer, not 8.5; right would be a whole",
    "min-impressions-true": "5: min_impressions: input should be a valid integer, not True; right would be a whole nu",
    "score-infinite": "5: score: inf is no number that anything can be compared with; right would be a number above 0",
    "score-nan": "5: score: nan is no number that anything can be compared with; right would be a number above 0, suc",
    "score-negative": "5: score: input should be greater than 0, not -4.5; right would be a number above 0, such as 4",
    "score-text": "5: score: input should be a valid number, not '4.5'; right would be a number above 0, such as 4.5 ",
    "score-true": "5: score: input should be a valid number, not True; right would be a number above 0, such as 4.5 (",
    "severity-number": "5: severity: input should be 'info', 'warning' or 'critical', not 1; right would be info, war",
    "signal-by-empty": "7: by: is empty; everything together is [[]], or no by; right would be a list of dimensions (",
    "signal-label-severity": "7: labels.severity: is set by the alert itself, to the rule's own severity, which stand",
    "signal-times-infinite": "7: times: inf is no number that anything can be compared with; right would be how many ",
    "step-all-of-several": "5: step: all is every step and stands alone; right would be all, the name of a step, or a",
    "step-control-character": "5: step.0: 'INPUT\\tNAME' has a line break or another character that nobody sees; righ",
    "step-empty": "5: step.0: '' is empty; right would be all, the name of a step, or a list of names",
    "step-list-empty": "5: step: is empty: the rule would judge nothing; right would be all, the name of a step, or a",
    "step-null": "5: step: input should be a list, not None; right would be all, the name of a step, or a list of nam",
    "step-number": "5: step: input should be a list, not 5; right would be all, the name of a step, or a list of name",
    "step-of-list-empty": "5: step.1: '' is empty; right would be all, the name of a step, or a list of names",
    "step-too-long": "5: step.0: has 101 characters; an event with more than 100 is rejected; right would be all, the",
    "step-twice": "5: step: INPUT_NAME stands twice; right would be all, the name of a step, or a list of names",
    "step-with-space": "5: step.0: 'INPUT_NAME ' begins or ends with a space, and would match nothing; right would be",
    "threshold-below-nan": "6: below: nan is no number that anything can be compared with; right would be a rate from",
    "threshold-below-negative": "6: below: input should be greater than 0, not -0.5; right would be a rate from 0 to ",
    "threshold-over-zero": "7: over: input should be greater than 0, not '0s'; right would be a duration up to 3w, su",
    "top-level-misspelt": "1: group: is not a known field; right would be groups",
    "top-level-unknown": "5: global: is not a known field; right would be one of groups",
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
def test_a_bad_file_is_rejected_with_line_field_fault_and_remedy(path: Path) -> None:
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
def test_what_is_no_duration_is_rejected(wrong: object) -> None:
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

    assert (result.exit_code, json.loads(result.stdout)) == (0, {"ok": True, "rules": 5, "errors": []})


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
