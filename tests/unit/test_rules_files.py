"""Rule files: each bad one is rejected with a helpful message, and good ones give the rules they describe."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from funnelwatch.alert_rules.labels import render
from funnelwatch.alert_rules.loader import RuleFileError, load_rules, parse_rules
from funnelwatch.alert_rules.model import ChangeRule, DropRule, ThresholdRule, parse_duration
from funnelwatch.cli.rules import rules as command
from funnelwatch.schemas.funnels import Funnel

FIXTURES = Path(__file__).parents[1] / "fixtures" / "rules"
MESSAGES = {
    "alert-missing": "4: groups[0].rules[0].alert: is missing; right would be a name of letters, digits and undersco",
    "alert-twice": "5: groups[0].rules[1].alert: Drop appears twice for funnel *; right would be a name of its own",
    "basis-unknown": "5: groups[0].rules[0].basis: must be 'window', 'cohort' or 'session', not 'person'; right woul",
    "braces-open": "6: groups[0].rules[0].annotations.summary: has braces that are not a placeholder; right would be",
    "change-offset-too-long": "7: groups[0].rules[0].offset: is longer than the three weeks that the detector keeps;",
    "drop-negative": "5: groups[0].rules[0].min_drop: must be at least 0, not -0.1; right would be a share of the ex",
    "empty": "1: groups: is missing; right would be a list such as [{name: sign_up, rules: [...]}]",
    "for-without-unit": "5: groups[0].rules[0].for: 5 is not a duration; right would be a duration such as 0s or 2m",
    "groups-missing": "1: rules: is not a known field; right would be groups",
    "key-twice": '6: YAML: found duplicate key "score"; right would be well-formed YAML with each key once',
    "level-twice": "5: groups[0].rules[0].by: a level is repeated; right would be a list of dimensions such as [os]",
    "min-impressions-text": "5: groups[0].rules[0].min_impressions: must be a whole number, not 'many'; right would ",
    "metric-dimension-unknown": "7: groups[0].rules[0].by[0]: 'o-s' is not the name of a dimension; right would be a",
    "metric-kind-drop": "4: groups[0].rules[0].kind: 'drop' is not a kind of rule about a counter or timer; right wo",
    "metric-name-unknown": "6: groups[0].rules[0].metric: 'sms-sent' is not the name of a counter or timer; right wo",
    "metric-of-one-funnel": "7: groups[0].rules[0].funnel: must be '*': a counter or timer belongs to no funnel; rig",
    "metric-two-limits": "8: groups[0].rules[0].above: either this or below must be there, and not both; right would",
    "metric-with-step": "7: groups[0].rules[0].step: is not a known field; right would be one of alert, funnel, for,",
    "metric-without-limit": "4: groups[0].rules[0].above: either this or below must be there, and not both; right wo",
    "not-yaml": "5: YAML: expected ',' or ']', but got '<stream end>'; right would be well-formed YAML with each key",
    "rule-not-a-map": "4: groups[0].rules[0]: is a text, not a map; right would be a map such as {alert: ConversionD",
    "rules-empty": "3: groups[0].rules: is empty; right would be a list of rules",
    "score-zero": "5: groups[0].rules[0].score: must be above 0, not 0; right would be a number above 0, such as 4.5",
    "severity-unknown": "5: groups[0].rules[0].severity: must be 'info', 'warning' or 'critical', not 'page'; right ",
    "threshold-above-one": "6: groups[0].rules[0].below: must be at most 1, not 60; right would be a rate from 0 to ",
    "threshold-over-too-long": "7: groups[0].rules[0].over: is longer than the three weeks that the detector keeps; ",
    "threshold-without-below": "4: groups[0].rules[0].below: is missing; right would be a rate from 0 to 1, such as ",
    "unknown-dimension": "5: groups[0].rules[0].by: funnel: is a field of an event, not a dimension; right would be an",
    "unknown-field": "5: groups[0].rules[0].min_dorp: is not a known field; right would be min_drop",
    "signal-missing": "4: groups[0].rules[0].signal: is missing; right would be impressions, dead_letters, silent or",
    "signal-of-one-funnel": "6: groups[0].rules[0].funnel: must be '*': all funnels share the events topic; right wo",
    "signal-unknown": "5: groups[0].rules[0].signal: 'lag' is not a signal; right would be impressions, dead_letters",
    "signal-with-step": "6: groups[0].rules[0].step: is not a known field; right would be one of alert, funnel, for,",
    "unknown-kind": "5: groups[0].rules[0].kind: 'spike' is not a kind of rule; right would be drop, threshold, chan",
    "unknown-placeholder": "6: groups[0].rules[0].annotations.summary: {{ stepp }} is not a field of an alert; did y",
    "alert-number": "4: groups[0].rules[0].alert: is a number, not a text; right would be a name of letters, digits ",
    "alert-watchdog": "4: groups[0].rules[0].alert: Watchdog is the name of the alerting's own heartbeat; right woul",
    "alert-with-space": "4: groups[0].rules[0].alert: must match ^[A-Za-z_][A-Za-z0-9_]*$, not 'Conversion Drop'; ri",
    "annotation-also-at": "5: groups[0].rules[0].annotations.also_at: is set by the alert itself, to the other steps",
    "annotation-dashboard": "5: groups[0].rules[0].annotations.dashboard: is set by the alert itself, to the link th",
    "annotation-empty": "6: groups[0].rules[0].annotations.summary: is empty, which is the same as leaving it out; r",
    "basis-list": "5: groups[0].rules[0].basis: must be 'window', 'cohort' or 'session', not a list; right would ",
    "by-a-text": "5: groups[0].rules[0].by: is a text, not a list; right would be a list of dimensions such as [os]",
    "by-empty": "5: groups[0].rules[0].by: is empty; everything together is [[]], or no by; right would be a list of",
    "by-mixed": "5: groups[0].rules[0].by[0]: is a list, not a text; right would be a list of dimensions such as [o",
    "by-null": "5: groups[0].rules[0].by: is empty, not a list; right would be a list of dimensions such as [os]",
    "change-drop-infinite": "6: groups[0].rules[0].drop: inf is not a number that anything can be compared with; rig",
    "dimension-twice": "5: groups[0].rules[0].by: a dimension is repeated in ['os', 'os']; right would be a list of ",
    "document-a-list": "1: file: is a list, not a map; right would be a map with groups",
    "documents-two": "2: YAML: but found another document; right would be well-formed YAML with each key once",
    "field-a-number": "5: groups[0].rules[0].1: is not a known field; right would be one of alert, funnel, for, keep",
    "for-negative": "5: groups[0].rules[0].for: '-5m' is not a duration; right would be a duration such as 0s or 2m",
    "for-null": "5: groups[0].rules[0].for: None is not a duration; right would be a duration such as 0s or 2m",
    "for-too-long": "5: groups[0].rules[0].for: '400d' is longer than a year; right would be a duration such as 0s o",
    "for-unit-twice": "5: groups[0].rules[0].for: '5m5m' is not a duration; right would be a duration such as 0s or ",
    "for-units-out-of-order": "5: groups[0].rules[0].for: '5m1h' is not a duration; right would be a duration such a",
    "funnel-a-list": "5: groups[0].rules[0].funnel: is a list, not a text; right would be the name of a funnel, or '",
    "funnel-empty": "5: groups[0].rules[0].funnel: is empty; right would be the name of a funnel, or '*' for every f",
    "funnel-with-space": "5: groups[0].rules[0].funnel: ' sign_up' begins or ends with a space, and would match noth",
    "group-a-text": "2: groups[0]: is a text, not a map; right would be a list such as [{name: sign_up, rules: [...]",
    "group-name-empty": "2: groups[0].name: is blank; right would be a name of its own, such as sign_up",
    "group-name-number": "2: groups[0].name: is a number, not a text; right would be a name of its own, such as sign",
    "group-twice": "5: groups[1].name: g appears twice; right would be a name of its own, such as sign_up",
    "group-unknown-field": "3: groups[0].interval: is not a known field; right would be one of name, rules",
    "groups-a-map": "1: groups: is a map, not a list; right would be a list such as [{name: sign_up, rules: [...]}]",
    "groups-empty": "1: groups: is empty; right would be a list such as [{name: sign_up, rules: [...]}]",
    "label-alert-id": "5: groups[0].rules[0].labels.alert_id: is set by the alert itself, to the alert's id; another",
    "label-alertname": "5: groups[0].rules[0].labels.alertname: is set by the alert itself, to the rule's name; anot",
    "label-empty": "5: groups[0].rules[0].labels.team: is empty, which is the same as leaving it out; right would be",
    "label-funnel": "5: groups[0].rules[0].labels.funnel: is set by the alert itself, to the funnel that is evaluate",
    "label-key-twice": '7: YAML: found duplicate key "team"; right would be well-formed YAML with each key once',
    "label-name-no-name": "5: groups[0].rules[0].labels.team-name: is not a name of letters, digits and underscores;",
    "label-number": "5: groups[0].rules[0].labels.tier: is a number, not a text; right would be a map of names of yo",
    "label-os": "5: groups[0].rules[0].labels.os: is set by the alert itself, to the os that is evaluated; another n",
    "label-severity": "6: groups[0].rules[0].labels.severity: is set by the alert itself, to the rule's own severity",
    "label-state": "5: groups[0].rules[0].labels.state: is set by the alert itself, to the alert's state; another na",
    "label-step": "5: groups[0].rules[0].labels.step: is set by the alert itself, to the step that is evaluated; ano",
    "labels-a-list": "5: groups[0].rules[0].labels: is a list, not a map; right would be a map of names of your own ",
    "metric-above-infinite": "7: groups[0].rules[0].above: inf is not a number that anything can be compared with; r",
    "metric-below-negative": "7: groups[0].rules[0].below: must be above 0, not -1; right would be a number above 0,",
    "metric-below-zero": "7: groups[0].rules[0].below: must be above 0, not 0; right would be a number above 0, such",
    "metric-by-empty": "8: groups[0].rules[0].by: is empty, which is not the same as leaving it out; right would be ",
    "metric-by-twice": "8: groups[0].rules[0].by: os is repeated; right would be a list of dimensions that are evalu",
    "metric-label-of-by": "9: groups[0].rules[0].labels: country is a dimension of by, and the alert sets it itself;",
    "metric-min-samples-text": "8: groups[0].rules[0].min_samples: must be a whole number, not 'many'; right would b",
    "metric-rise-nan": "7: groups[0].rules[0].rise: nan is not a number that anything can be compared with; right wo",
    "metric-where-empty-value": "8: groups[0].rules[0].where.os: is empty; right would be a map of dimensions to the",
    "metric-where-number": "9: groups[0].rules[0].where.version: is a number, not a text; right would be a map of di",
    "min-drop-nan": "5: groups[0].rules[0].min_drop: nan is not a number that anything can be compared with; right w",
    "min-impressions-fraction": "5: groups[0].rules[0].min_impressions: must be a whole number, not 8.5; right would",
    "min-impressions-true": "5: groups[0].rules[0].min_impressions: must be a whole number, not True; right would be",
    "score-infinite": "5: groups[0].rules[0].score: inf is not a number that anything can be compared with; right wo",
    "score-nan": "5: groups[0].rules[0].score: nan is not a number that anything can be compared with; right would b",
    "score-negative": "5: groups[0].rules[0].score: must be above 0, not -4.5; right would be a number above 0, such",
    "score-text": "5: groups[0].rules[0].score: must be a number, not '4.5'; right would be a number above 0, such a",
    "score-true": "5: groups[0].rules[0].score: must be a number, not True; right would be a number above 0, such as",
    "severity-number": "5: groups[0].rules[0].severity: must be 'info', 'warning' or 'critical', not 1; right would ",
    "signal-by-empty": "7: groups[0].rules[0].by: is empty; everything together is [[]], or no by; right would be a ",
    "signal-label-severity": "7: groups[0].rules[0].labels.severity: is set by the alert itself, to the rule's own s",
    "signal-times-infinite": "7: groups[0].rules[0].times: inf is not a number that anything can be compared with; r",
    "step-all-of-several": "5: groups[0].rules[0].step: all means every step, and cannot be one of several; right wo",
    "step-control-character": "5: groups[0].rules[0].step: 'INPUT\\tNAME' has a line break or another invisible char",
    "step-empty": "5: groups[0].rules[0].step: is empty; right would be all, the name of a step, or a list of names",
    "step-list-empty": "5: groups[0].rules[0].step: is empty: the rule would evaluate nothing; right would be all, t",
    "step-null": "5: groups[0].rules[0].step: is empty, not a list; right would be all, the name of a step, or a lis",
    "step-number": "5: groups[0].rules[0].step: is a number, not a list; right would be all, the name of a step, or ",
    "step-of-list-empty": "5: groups[0].rules[0].step[1]: is empty; right would be all, the name of a step, or a lis",
    "step-too-long": "5: groups[0].rules[0].step: has 101 characters; an event with more than 100 is rejected; right",
    "step-twice": "5: groups[0].rules[0].step: INPUT_NAME is repeated; right would be all, the name of a step, or a ",
    "step-with-space": "5: groups[0].rules[0].step: 'INPUT_NAME ' begins or ends with a space, and would match nothi",
    "threshold-below-nan": "6: groups[0].rules[0].below: nan is not a number that anything can be compared with; rig",
    "threshold-below-negative": "6: groups[0].rules[0].below: must be above 0, not -0.5; right would be a rate from ",
    "threshold-over-zero": "7: groups[0].rules[0].over: must be above 0, not 0; right would be a duration up to 3w, ",
    "top-level-misspelt": "1: group: is not a known field; right would be groups",
    "top-level-unknown": "5: global: is not a known field; right would be groups",
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
def test_a_bad_file_is_rejected_with_line_field_error_and_remedy(path: Path) -> None:
    """The message names the place, what is wrong and what would be right."""
    with pytest.raises(RuleFileError) as caught:
        load_rules(path)

    assert str(caught.value).startswith(f"{path}:{MESSAGES[path.stem]}"), str(caught.value)


def test_every_message_has_its_file() -> None:
    """No expectation is left without a fixture."""
    assert sorted(MESSAGES) == sorted(path.stem for path in FIXTURES.glob("*.yml"))


def test_a_good_file_makes_the_rules_it_says() -> None:
    """Kinds, levels in order from wide to narrow, steps and durations."""
    a, b, c = parse_rules(GOOD)

    assert isinstance(a, DropRule)
    assert isinstance(b, ThresholdRule)
    assert isinstance(c, ChangeRule)
    assert a.by == ((), ("os",), ("os", "browser"))
    assert (a.steps, a.for_ms, a.score) == (("VERIFY_SMS_CODE", "INPUT_NAME"), 5_400_000, 4.5)
    assert (b.below, b.by, b.funnel) == (0.6, (("os",),), "shop")
    assert (c.offset_ms, c.basis, c.covers("ANY")) == (86_400_000, "cohort", True)


STEPS = {"sign_up": Funnel(("INPUT_NAME", "VERIFY_SMS_CODE")), "shop": Funnel(("CART", "PAY"))}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            "step: VERIFY_SMS_CODES",
            "VERIFY_SMS_CODES is not a step of a declared funnel; right would be VERIFY_SMS_CODE, or",
        ),
        ("step: [CART, PAID], funnel: shop", "PAID is not a step of the funnel shop; right would be one of CART, PAY"),
        (
            "step: CART, funnel: sign_up",
            "CART is not a step of the funnel sign_up; right would be one of INPUT_NAME, V",
        ),
    ],
)
def test_a_step_that_no_declared_funnel_has_is_an_error(rule: str, message: str) -> None:
    """A misspelt step would silently never fire."""
    text = f"groups:\n- name: g\n  rules:\n  - alert: D\n    {rule.replace(', funnel', chr(10) + '    funnel')}\n"
    with pytest.raises(RuleFileError) as caught:
        parse_rules(text, "mine.yml", declared=STEPS)

    assert str(caught.value).startswith(f"mine.yml:5: groups[0].rules[0].step: {message}"), str(caught.value)


@pytest.mark.parametrize(
    "rule", ["step: PAY", "step: all", "step: ANY, funnel: other", "funnel: shop, step: [CART, PAY]"]
)
def test_a_step_that_may_be_counted_is_no_error(rule: str) -> None:
    """Of a declared funnel, or of one that nobody declared."""
    assert parse_rules(f"groups: [{{name: g, rules: [{{alert: D, {rule}}}]}}]", declared=STEPS)


def test_the_shipped_rules_hold_for_every_funnel() -> None:
    """A drop raises an alert without rules of one's own."""
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


def test_check_reports_each_error_and_fails() -> None:
    """The command prints the errors of every file to stderr and exits with 1."""
    result = CliRunner().invoke(command, ["check", str(FIXTURES / "unknown-field.yml"), str(FIXTURES / "empty.yml")])

    assert result.exit_code == 1
    assert "min_dorp: is not a known field" in result.stderr
    assert "groups: is missing" in result.stderr


def test_check_of_the_shipped_rules_is_clean_and_machine_readable() -> None:
    """With nothing given, the rules in use are checked."""
    result = CliRunner().invoke(command, ["check", "--json"])

    assert (result.exit_code, json.loads(result.stdout)) == (0, {"ok": True, "rules": 5, "errors": []})


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """Reading a pipe would block for ever."""
    os.mkfifo(tmp_path / "pipe.yml")
    with pytest.raises(RuleFileError, match=r"pipe\.yml: is not a file"):
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
