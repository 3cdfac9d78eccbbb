"""Files of rule tests: each bad one is rejected with a helpful message; shipped and documented ones are good."""

from __future__ import annotations

from pathlib import Path

import pytest

from funnelwatch.alert_rules.cases import load_cases
from funnelwatch.alert_rules.loader import RuleFileError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "cases"
MESSAGES = {
    "document-a-list": "1: file: is a list, not a map; right would be a map with rules, window, tests",
    "event-after-the-end": "4: tests[0].events[0].at: is after the last expectation; right would be a time before, o",
    "event-status-of-impression": "4: tests[0].events[0].status: a POST_VERIFICATION has one, an IMPRESSION has none",
    "event-times-true": "4: tests[0].events[0].times: must be a whole number, not True; right would be a whole numbe",
    "event-times-zero": "4: tests[0].events[0].times: must be at least 1, not 0; right would be a whole number from ",
    "event-with-duration-of-impression": "4: tests[0].events[0].duration: an IMPRESSION has none; right would be a d",
    "events-empty": "3: tests[0].events: is empty, which is not the same as leaving it out; right would be a list of",
    "expect-alert-twice": "7: tests[0].expect[0].alerts: D of A appears twice for the same series; right would be no",
    "expect-between-windows": "5: tests[0].expect[0].at: no window ends then; right would be a multiple of 60 s",
    "expect-empty": "3: tests[0].expect: is empty; right would be a list such as {at: 12m, alerts: none}",
    "expect-labels-empty": "8: tests[0].expect[0].alerts[0].labels: is empty, which is not the same as leaving it ou",
    "expect-unknown-field": "5: tests[0].expect[0].alert: is not a known field; right would be alerts",
    "expect-without-alerts": "5: tests[0].expect[0].alerts: is missing; right would be none, or a list of alerts suc",
    "history-days-nan": "3: tests[0].history.days: nan is not a number that anything can be compared with; right wou",
    "history-impressions-infinite": "3: tests[0].history.impressions: inf is not a number that anything can be compa",
    "history-overdispersion-without-seed": "3: tests[0].history.overdispersion: has no effect without a seed, from w",
    "history-rate-text": "3: tests[0].history.rate: must be a number, not 'high'; right would be successes per impre",
    "history-seed-fraction": "3: tests[0].history.seed: must be a whole number, not 1.5; right would be a whole numb",
    "history-seed-negative": "3: tests[0].history.seed: must be at least 0, not -1; right would be a whole number fr",
    "history-unknown-field": "3: tests[0].history.weeks: is not a known field; right would be one of days, impressio",
    "key-twice": '4: YAML: found duplicate key "funnel"; right would be well-formed YAML with each key once',
    "name-blank": "2: tests[0].name: is blank; right would be a sentence that says what must happen",
    "name-twice": "4: tests[1].name: 'x' appears twice; right would be a name of its own",
    "os-empty": "4: tests[0].series[0].os: is empty; right would be an os",
    "rate-above-one": "4: tests[0].series[0].rate: a value is above 1; right would be values of consecutive windows,",
    "rate-longer": "4: tests[0].series[0].rate: has 11 values where impressions has 10; one for each window, with _ ",
    "rate-one-value": "4: tests[0].series[0].rate: has 1 values where impressions has 10; one for each window, with ",
    "rate-without-impressions": "4: tests[0].series[0].rate: needs impressions; right would be values of consecutive",
    "rules-empty": "1: rules: is empty; right would be a rule file or folder, by its path from this file",
    "series-empty": "3: tests[0].series: is empty, which is not the same as leaving it out; right would be a list of",
    "series-of-unequal-length": "5: tests[0].series[1].impressions: has 5 values where another series of the test ha",
    "series-twice": "5: tests[0].series[1]: appears twice; right would be one series for each step and dimensions",
    "series-unknown-field": "4: tests[0].series[0].device: is not a known field; right would be one of step, os, bro",
    "session-successes-above-sessions": "4: tests[0].series[0].session_successes: a value is above that of sessions;",
    "sessions-alone": "4: tests[0].series[0].session_successes: is missing; sessions and session_successes go togeth",
    "sessions-shorter": "4: tests[0].series[0].sessions: has 9 values where impressions has 10; right would be values",
    "step-empty": "4: tests[0].series[0].step: is empty; right would be the name of a step",
    "step-with-space": "4: tests[0].series[0].step: 'A ' begins or ends with a space, and would match nothing; right",
    "successes-shorter": "4: tests[0].series[0].successes: has 9 values where impressions has 10; one for each windo",
    "tests-a-map": "1: tests: is a map, not a list; right would be a list of tests",
    "top-level-unknown": "1: interval: is not a known field; right would be one of rules, window, tests",
    "value-infinite": "4: tests[0].series[0].impressions: a value is above 1,000,000,000,000; right would be values ",
    "value-negative": "4: tests[0].series[0].successes: a value is below 0; right would be values of consecutive win",
    "value-not-a-number": "4: tests[0].series[0].impressions: 'nan' is not a value; right would be values of consecu",
    "version-a-number": "4: tests[0].series[0].app_version: 1.1 is a number to YAML; a text needs quotes; right woul",
    "window-number": "1: window: 60 is not a duration; right would be a duration from 1s to 1d, such as 1m",
    "window-zero": "1: window: must be at least 1,000, not 0; right would be a duration from 1s to 1d, such as 1m",
}


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.yml")), ids=lambda path: path.stem)
def test_a_bad_file_of_tests_is_rejected_with_line_field_error_and_remedy(path: Path) -> None:
    """A test whose input is not what its author meant proves nothing."""
    with pytest.raises(RuleFileError) as caught:
        load_cases(path)

    assert str(caught.value).startswith(f"{path}:{MESSAGES[path.stem]}"), str(caught.value)
    assert "right would be" in str(caught.value)


def test_every_message_has_its_file_too() -> None:
    """No expectation is left without a fixture."""
    assert sorted(MESSAGES) == sorted(path.stem for path in FIXTURES.glob("*.yml"))


def test_absent_values_fill_a_series_up(tmp_path: Path) -> None:
    """A version that comes later and an os that goes: the other windows have no value."""
    path = tmp_path / "test.yml"
    path.write_text(
        "tests:\n- name: x\n  series:\n"
        "  - {step: A, app_version: '1.10', impressions: _x5 100x4, rate: _x5 0.8x4}\n"
        "  - {step: A, app_version: 2, impressions: 100x4 _x5, successes: 80x4 _x5}\n"
        "  expect: [{at: 10m, alerts: none}]\n"
    )
    [test] = load_cases(path).content.tests
    assert [one.app_version for one in test.series] == ["1.10", "2"]
