"""How drills compare session counts, on a few rows, and what their traffic has to compare."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.schemas.funnels import load_funnels
from tests.drills.compare import Verdict
from tests.drills.compare_sessions import found_in, note_differences, variety
from tests.drills.events import STEPS, Mix, Source
from tests.drills.funnels import declared_funnels, funnels_file
from tests.drills.people import People
from tests.drills.plan import Plan, short
from tests.reference.events import Event, without_duplicates
from tests.reference.sessions import COLUMNS, Counts, Funnel, Key, count_sessions, sessions_of

if TYPE_CHECKING:
    from pathlib import Path

IOS = (("country", "DE"), ("os", "iOS"))
EXPECTED: dict[Key, Counts] = {
    (60_000, "sign_up", "PHONE", IOS): (3, 2, 3, 2),
    (60_000, "sign_up", "CODE", IOS): (0, 0, 1, 1),
    (120_000, "sign_up", "CODE", (("os", "Android"),)): (1, 1, 0, 0),
}
ROWS: list[tuple[Any, ...]] = [
    (60_000, "sign_up", "PHONE", {"os": "iOS", "country": "DE"}, 3, 2, 3, 2),
    (60_000, "sign_up", "CODE", {"country": "DE", "os": "iOS"}, 0, 0, 1, 1),
    (120_000, "sign_up", "CODE", {"os": "Android"}, 1, 1, 0, 0),
]
NOW = 1_700_000_000_000


def compared(rows: list[tuple[Any, ...]]) -> Verdict:
    """The verdict on rows of the database."""
    verdict = Verdict()
    note_differences(EXPECTED, found_in(rows), verdict)
    return verdict


def test_equal_rows_are_as_promised() -> None:
    """Whatever the order of rows and of dimensions; the sums are kept as facts."""
    verdict = compared(ROWS[::-1])
    assert verdict.ok
    assert verdict.facts == {"sessions": 4, "session_successes": 3, "reached": 4, "completed": 3}


@pytest.mark.parametrize("column", range(len(COLUMNS)), ids=COLUMNS)
@pytest.mark.parametrize("off", [-1, 1])
def test_one_session_too_many_or_too_few_is_wrong_in_each_column(column: int, off: int) -> None:
    """The note names the key, what was expected and what was found."""
    row = list(ROWS[0])
    row[4 + column] += off
    verdict = compared([tuple(row), *ROWS[1:]])
    assert (verdict.ok, verdict.wrong) == (False, 1)
    [note] = verdict.notes
    assert str(EXPECTED[60_000, "sign_up", "PHONE", IOS]) in note
    assert str(tuple(row[4:])) in note
    assert "'PHONE'" in note


def test_a_row_that_is_missing_and_one_that_should_not_be_are_wrong() -> None:
    """Each is one thing wrong."""
    elsewhere = (180_000, *ROWS[2][1:])
    verdict = compared([*ROWS[:2], elsewhere])
    assert verdict.wrong == 2
    assert "expected (1, 1, 0, 0), found (0, 0, 0, 0)" in verdict.notes[0]
    assert "expected (0, 0, 0, 0), found (1, 1, 0, 0)" in verdict.notes[1]


def test_traffic_without_anything_to_count_proves_nothing() -> None:
    """Each column of which nothing is expected is wrong, even if nothing was found."""
    verdict = Verdict()
    note_differences({}, {}, verdict)
    assert [note.rpartition(" ")[2] for note in verdict.notes] == list(COLUMNS)


@pytest.mark.parametrize(
    ("plan", "per_second"),
    [(short(Plan()), 500), (replace(Plan(), events=30_000), 250)],
    ids=["short", "a tenth of the full length"],
)
def test_the_traffic_has_all_that_makes_sessions_hard_to_count(plan: Plan, per_second: int) -> None:
    """Reloads, skips, other devices, early successes, visits longer than W, returns after W; every step is reached."""
    chance = random.Random(plan.events)
    people = People(chance, plan.people, len(STEPS))
    source = Source(chance, lambda _: b"x", Mix(repeated=0.05), plan.window_ms, people, plan.repeat_within_ms)
    records = []
    for number in range(plan.events):
        record = source(NOW + 1000 * number // per_second)
        if event := record.entry.event:
            own = {name: event[name] for name in ("os", "browser", "app_version", "phase", "status", "ts", "contexts")}
            session = event["sign_up_session_id"]
            at = (0, number, record.log_time, event["event_id"], event["funnel"], session, event["step"])
            records.append(Event(*at, **own))
    events = list(without_duplicates(records, round(plan.duplicate_horizon_s * 1000)))
    # Every repetition comes within the horizon: the ledger, which knows no times, takes it for a duplicate.
    assert len({event.event_id for event in records}) == len(events) < 0.97 * len(records)

    funnels = declared_funnels(plan.session_window_ms, all_declared=False)
    found = variety(sessions_of(events, funnels), funnels)
    assert min(found.values()) >= 5, found
    completed = dict.fromkeys(STEPS, 0)
    undeclared = 0
    for (_, funnel, step, _), counts in count_sessions(events, funnels, plan.window_ms).items():
        if funnel == "sign_up":
            completed[step] += counts[COLUMNS.index("completed")]
        else:
            undeclared += counts[COLUMNS.index("session_successes")]
    assert min(*completed.values(), undeclared) > 0, (completed, undeclared)


@pytest.mark.parametrize("all_declared", [False, True])
def test_workers_and_reference_have_the_same_funnels(all_declared: bool, tmp_path: Path) -> None:
    """The file that a drill writes is accepted and says what the reference counts by."""
    path = tmp_path / "funnels.yml"
    path.write_text(funnels_file(2_500, all_declared=all_declared))
    loaded = load_funnels(path)
    expected = declared_funnels(2_500, all_declared=all_declared)
    assert {
        name: Funnel(one.steps, one.dimensions, one.session_window_ms) for name, one in loaded.by_name.items()
    } == expected
    assert loaded.undeclared == ("reject" if all_declared else "accept")
    assert len(expected) == 1 + all_declared
