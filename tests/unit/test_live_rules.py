"""Rules follow their files: edits are taken up, broken ones rejected, and what is gone is resolved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.alert_rules.loader import LiveRules, RuleFileError, parse_rules
from funnelwatch.cli.doctor import check_rules
from funnelwatch.stream.detector.state import AlertState, Reason, State, retire

if TYPE_CHECKING:
    from pathlib import Path

RULE = "groups: [{name: g, rules: [{alert: Drop, score: %s}]}]\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A folder's one rule file."""
    path = tmp_path / "mine.yml"
    path.write_text(RULE % 4.5)
    return path


def scores(live: LiveRules) -> list[Any]:
    """The score of each rule that is in use."""
    return [rule.score for rule in live.rules.rules if rule.kind == "drop"]


def test_an_edit_is_taken_up_once_it_has_settled(file: Path) -> None:
    """Not at the look that first sees it, and only once."""
    live = LiveRules(file.parent)
    file.write_text(RULE % 7.25)

    assert [live.look(), live.look(), live.look()] == [False, True, False]
    assert scores(live) == [7.25]


def test_a_broken_edit_is_rejected_and_the_rules_before_it_go_on(file: Path) -> None:
    """The error names file, line and field; it goes when the file is corrected."""
    live = LiveRules(file.parent)
    file.write_text(RULE % "high")
    assert [live.look(), live.look()] == [False, False]
    assert (live.error or "").startswith(f"{file}:1: groups[0].rules[0].score: must be a number")
    assert scores(live) == [4.5]

    file.write_text(RULE % 5.125)
    assert [live.look(), live.look()] == [False, True]
    assert (live.error, scores(live)) == (None, [5.125])


def test_a_folder_that_loses_its_last_file_keeps_its_rules(file: Path) -> None:
    """Somebody who moves files about does not switch the alerts off."""
    live = LiveRules(file.parent)
    file.unlink()
    live.look()
    live.look()

    assert "has no *.yml files" in (live.error or "")
    assert scores(live) == [4.5]


def test_a_new_file_and_a_removed_rule_are_edits_and_a_comment_is_none(file: Path) -> None:
    """What counts is which rules there are, with their versions."""
    live = LiveRules(file.parent)
    file.write_text("# said again\n" + RULE % 4.5)
    assert [live.look(), live.look()] == [False, False]
    (file.parent / "more.yaml").write_text("groups: [{name: h, rules: [{alert: Other}]}]")
    assert [live.look(), live.look()] == [False, True]
    assert [rule.alert for rule in live.rules.rules] == ["Drop", "Other"]


def test_a_broken_file_at_the_start_is_an_error(file: Path) -> None:
    """There are no earlier rules that could go on."""
    file.write_text("groups: []")
    with pytest.raises(RuleFileError, match=r"mine\.yml:1: groups: is empty"):
        LiveRules(file)


def test_the_doctor_names_a_broken_rule_file(file: Path) -> None:
    """What workers keep quiet about on the screen is said where a person looks."""
    assert check_rules(file).level == "ok"
    file.write_text("groups: []")
    finding = check_rules(file)
    assert (finding.level, "mine.yml:1: groups: is empty" in finding.message) == ("FAILED", True)


def state(name: str, at: State, step: str = "A", **dimensions: str) -> AlertState:
    """A state of a rule on a series."""
    return AlertState(name, "f", step, dimensions, at, alert_id=f"{name} {step}", sequence=3)


CASES: dict[str, tuple[AlertState, State | None]] = {
    "firing of a removed rule is resolved": (state("Gone", State.FIRING), State.RESOLVED),
    "no data of a removed rule is resolved": (state("Gone", State.NO_DATA), State.RESOLVED),
    "pending of a removed rule is forgotten": (state("Gone", State.PENDING), State.OK),
    "resolved of a removed rule stays": (state("Gone", State.RESOLVED), None),
    "ok of a removed rule stays": (state("Gone", State.OK), None),
    "firing of a rule that was edited goes on": (state("Kept", State.FIRING), None),
    "firing by os of a rule by os goes on": (state("Kept", State.FIRING, os="iOS"), None),
    "firing of a step that the rule left out is resolved": (state("Kept", State.FIRING, "B"), State.RESOLVED),
    "firing by browser that the rule left out is resolved": (state("Kept", State.FIRING, browser="X"), State.RESOLVED),
}


@pytest.mark.parametrize("name", CASES)
def test_states_of_rules_that_are_gone_are_ended(name: str) -> None:
    """A resolved message has the last one's numbers, the next sequence and the reason."""
    before, expected = CASES[name]
    rules = parse_rules("groups: [{name: g, rules: [{alert: Kept, step: A, by: [[], [os]]}]}]")
    moves = retire([before], rules, lambda alert_id: {"alert_id": alert_id, "sequence": 3, "state": "firing"})

    assert [move.state.state for move in moves] == ([] if expected is None else [expected])
    if expected is State.RESOLVED:
        assert moves[0].state.reason is Reason.RULE_REMOVED
        assert moves[0].alert == {
            "alert_id": before.alert_id, "sequence": 4, "state": "resolved", "reason": "RULE_REMOVED"
        }  # fmt: skip
    else:
        assert not any(move.alert for move in moves)
