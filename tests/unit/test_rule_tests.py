"""``funnelwatch rules test``: tests of rules, the shipped ones among them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from funnelwatch.alert_rules.cases import expand
from funnelwatch.alert_rules.loader import SHIPPED, load_rules
from funnelwatch.cli.rules import rules as command

if TYPE_CHECKING:
    from pathlib import Path

RULES = """
groups:
- name: g
  rules:
  - {alert: Low, kind: threshold, below: 0.6, over: 1m, for: 1m, by: [os], severity: info, labels: {team: x}}
"""


def run(*arguments: object) -> Result:
    """The command."""
    return CliRunner().invoke(command, ["test", *map(str, arguments)])


def written(tmp_path: Path, text: str) -> Path:
    """A test file beside a rule file."""
    (tmp_path / "rules.yml").write_text(RULES)
    path = tmp_path / "test.yml"
    path.write_text("rules: rules.yml\n" + text)
    return path


@pytest.mark.parametrize("path", sorted((SHIPPED / "tests").glob("*.yml")), ids=lambda path: path.name)
def test_the_shipped_rules_pass_their_tests(path: Path) -> None:
    """By the command that users have."""
    result = run(path)

    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert result.stdout.endswith(" passed, 0 failed\n")
    assert not result.stdout.startswith("0 ")


def test_tests_are_not_taken_for_rules() -> None:
    """They lie in a folder below the rules."""
    assert [rule.alert for rule in load_rules(SHIPPED).rules].count("ConversionDrop") == 1


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("7", (7,)),
        ("100x3", (100, 100, 100, 100)),
        ("100+2x3", (100, 102, 104, 106)),
        ("1.5-0.5x3", (1.5, 1, 0.5, 0)),
        ("_ _x2 4", (None, None, None, 4)),
        (5, (5,)),
        ("", ()),
    ],
)
def test_values_expand_as_in_promtool(text: object, values: tuple[float | None, ...]) -> None:
    """``axn`` is a and n more of it."""
    assert expand(text) == values


@pytest.mark.parametrize("text", ["x3", "1x", "a", "1+x3", "-1", "5-3x2", "1x100001", True, None, [1]])
def test_what_is_no_list_of_values_is_rejected(text: object) -> None:
    """Rather than guessed at."""
    with pytest.raises(ValueError, match=r"is not a value|is not a list|below 0|more than"):
        expand(text)


SERIES = "  series: [{step: A, os: iOS, impressions: 100x10, successes: 80 50x9}]\n"


def test_pending_firing_and_resolved_are_told_apart(tmp_path: Path) -> None:
    """A ``for`` of a minute; labels and severity of the rule, also while it is pending."""
    text = """
tests:
- name: it waits for a minute
  series: [{step: A, os: iOS, impressions: 100x14, successes: 80x1 50x2 80x9}]
  expect:
  - {at: 2m, alerts: none}
  - {at: 3m, alerts: [{alert: Low, step: A, os: iOS, state: pending, severity: info}]}
  - {at: 4m, alerts: [{alert: Low, step: A, os: iOS, severity: info, labels: {team: x}}]}
  - {at: 7m, alerts: [{alert: Low, step: A, os: iOS, state: resolved}]}
  - {at: 8m, alerts: none}
"""
    result = run(written(tmp_path, text))

    assert (result.exit_code, result.output) == (0, "1 passed, 0 failed\n")


SESSIONS = """
groups:
- name: g
  rules:
  - {alert: Low, kind: threshold, below: 0.6, over: 1m, by: [os], basis: session, maturity: 1m, min_impressions: 50}
"""


def test_a_rule_on_sessions_leaves_reloads_out_and_waits_for_its_maturity(tmp_path: Path) -> None:
    """Reloads double the impressions and raise nothing; what sessions lose is told a window later; so is the end."""
    text = """
tests:
- name: sessions
  series:
  - {step: A, os: iOS, impressions: 200x14, successes: 80x14, sessions: 100x14, session_successes: 80x4 40x3 80x5}
  - {step: A, os: Android, impressions: 100x14, successes: 80x14}
  expect:
  - {at: 6m, alerts: none}
  - {at: 7m, alerts: [{alert: Low, step: A, os: iOS}]}
  - {at: 13m, alerts: [{alert: Low, step: A, os: iOS, state: resolved, reason: RECOVERED}]}
"""
    path = written(tmp_path, text)
    (tmp_path / "rules.yml").write_text(SESSIONS)
    result = run(path)

    assert (result.exit_code, result.output) == (0, "1 passed, 0 failed\n")


def test_events_without_sessions_are_rejected_where_a_rule_counts_sessions(tmp_path: Path) -> None:
    """A test that could never fire would prove nothing."""
    text = "tests:\n- name: x\n  events: [{at: 0s, step: A, phase: IMPRESSION}]\n  expect: [{at: 1m, alerts: none}]\n"
    path = written(tmp_path, text)
    (tmp_path / "rules.yml").write_text(SESSIONS)
    result = run(path)

    assert result.exit_code == 1
    assert "events: those of A belong to no session, which rule Low counts (basis: session); right would be" in (
        result.output
    )


def test_events_are_counted_in_the_window_of_their_time(tmp_path: Path) -> None:
    """Ten impressions and five successes a minute are below 0.6; the series is known by its events alone."""
    events = [
        f"  - {{at: {minute * 60 + 5}s, step: A, os: iOS, {what}}}"
        for minute in range(3)
        for what in ("phase: IMPRESSION, times: 10", "phase: POST_VERIFICATION, status: SUCCESS, times: 5")
    ]
    text = "tests:\n- name: low\n  events:\n" + "\n".join(events) + "\n  expect:\n"
    text += "  - {at: 3m, alerts: [{alert: Low, step: A, os: iOS}]}\n"
    result = run(written(tmp_path, text))

    assert (result.exit_code, result.output) == (0, "1 passed, 0 failed\n")


def test_a_failed_test_shows_what_was_expected_and_what_was_found(tmp_path: Path) -> None:
    """By file, line, name and time; on the terminal and as JSON; exit code 1."""
    text = f"""
tests:
- name: it resolves
{SERIES}  expect:
  - {{at: 1m, alerts: none}}
  - {{at: 4m, alerts: [{{alert: Low, step: A, state: firing}}]}}
  - {{at: 5m, alerts: [{{alert: Low, step: A, os: iOS, state: firing, severity: critical}}]}}
  - {{at: 6m, alerts: none}}
"""
    path = written(tmp_path, text)
    result = run(path)

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"FAILED {path}:4: it resolves",
        "  at 4 min",
        "    - expected  firing Low A all",
        "    + found     firing Low A os=iOS reason=FIRST_DROP",
        "  at 5 min",
        "    - expected  firing Low A os=iOS severity=critical",
        "    + found     firing Low A os=iOS severity=info",
        "  at 6 min",
        "    + found     firing Low A os=iOS reason=FIRST_DROP",
        "0 passed, 1 failed",
    ]
    answer = json.loads(run(path, "--json").stdout)
    assert (answer["ok"], answer["errors"]) == (False, [])
    assert [(one["line"], one["ok"], len(one["differences"])) for one in answer["tests"]] == [(4, False, 3)]


EXPECT = "  expect: [{at: 1m, alerts: none}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tests: [\n", "test.yml:3: YAML: "),
        ("tests: []\n", "test.yml:2: tests: "),
        ("test:\n- name: x\n", "test.yml:2: test: is not a known field; right would be tests"),
        (f"tests:\n- nmae: x\n{EXPECT}", "test.yml:3: tests[0].nmae: is not a known field; right would be name"),
        (f"tests:\n- series: []\n{EXPECT}", "test.yml:3: tests[0].name: is missing; right would be a sentence"),
        (f"tests:\n- name: x\n  sreies: []\n{EXPECT}", "test.yml:4: tests[0].sreies: is not a known field"),
        (
            f"tests:\n- name: x\n  series:\n  - {{step: A, impressions: 5y3, rate: 1}}\n{EXPECT}",
            "test.yml:5: tests[0].series[0].impressions: '5y3' is not a value; right would be values of consecutive",
        ),
        (
            f"tests:\n- name: x\n  series:\n  - {{step: A, impressions: 5x3}}\n{EXPECT}",
            "test.yml:5: tests[0].series[0]: needs either successes or rate",
        ),
        (
            f"tests:\n- name: x\n  history: {{days: 99}}\n{EXPECT}",
            "test.yml:4: tests[0].history.days: must be at most 28, not 99; right would be a number of",
        ),
        (
            "tests:\n- name: x\n  expect: [{at: 1m, alerts: [{alert: D, step: A, state: on}]}]\n",
            "test.yml:4: tests[0].expect[0].alerts[0].state: must be 'pending'",
        ),
        ("tests:\n- name: x\n  expect: [{at: 5, alerts: none}]\n", "tests[0].expect[0].at: 5 is not a duration"),
        (
            "tests:\n- name: x\n  expect: [{at: 5m, alerts: none}, {at: 5m, alerts: none}]\n",
            "test.yml:4: tests[0].expect: the times must grow",
        ),
        (f"tests:\n- name: x\n  start: soon\n{EXPECT}", "test.yml:3: start: 'soon' is not a time"),
        (
            f"tests:\n- name: x\n  start: 2026-01-05T00:00:30Z\n{EXPECT}",
            "does not begin a window",
        ),
    ],
)
def test_a_broken_file_is_named_with_line_and_field(tmp_path: Path, text: str, message: str) -> None:
    """Exit code 1, and no test counted as passed."""
    result = run(written(tmp_path, text))

    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == "0 passed, 0 failed\n"


def test_missing_files_and_rules_are_named(tmp_path: Path) -> None:
    """A test file that is not there, and one whose rules are not."""
    path = tmp_path / "test.yml"
    path.write_text("rules: nowhere.yml\ntests: [{name: x, expect: [{at: 1m, alerts: none}]}]\n")
    result = run(path, tmp_path / "absent.yml")

    assert result.exit_code == 1
    assert "nowhere.yml: is neither a file nor a folder" in result.stderr
    assert "absent.yml: cannot be read" in result.stderr
