"""Dashboards for dimensions of a deployment: every panel that filters or breaks down, against a group-by in Python."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import pytest

from tests.filling import MINUTE_MS
from tests.grafana import answers
from tests.grafana_shop import CHOICES, DIMENSIONS, STEPS, ByHand, closed, document, fill, look, shown, with_interval
from tests.integration.test_grafana import CLOSED, RANGES, WEEK_MS, at, counted, rate

if TYPE_CHECKING:
    from datetime import datetime

    from funnelwatch.sinks.timescale.database import Database

BREAKDOWNS = [("plan",), ("country", "provider"), ("level", "by", "plan"), DIMENSIONS]


@pytest.fixture(scope="module")
def dimensions_plain(plain: Database) -> Database:
    """Plain PostgreSQL, filled."""
    fill(plain)
    return plain


@pytest.fixture(scope="module")
def dimensions_extended(extended: Database) -> Database:
    """TimescaleDB, filled."""
    fill(extended)
    return extended


@pytest.fixture(params=["plain", "extended"])
def filled(request: pytest.FixtureRequest) -> Database:
    """Both, one after the other."""
    database: Database = request.getfixturevalue(f"dimensions_{request.param}")
    return database


@pytest.mark.parametrize("level", RANGES)
@pytest.mark.parametrize("choice", CHOICES)
def test_the_funnel_shows_what_a_group_by_gives(filled: Database, choice: str, level: str) -> None:
    """Totals, rates, what is expected, impressions, and each dimension, of what is chosen."""
    chosen = CHOICES[choice]
    view = look(filled, "funnel", level, chosen)
    found, hand = answers(filled, view, document("funnel")), ByHand(level, chosen)
    totals = hand.sums(lambda one: one.step)
    assert hand.counts
    columns = ("step", "impressions", "successes", "failures", "rate", "survival", "reached")
    before = dict(zip(STEPS[1:], STEPS, strict=False))
    assert [tuple(row[column] for column in columns) for row in found["Steps A"]] == [
        (
            step,
            *totals[step][:3],
            rate(totals[step]),
            totals[step][0] / totals[before[step]][0] if step in before else None,
            totals[step][0] / totals[STEPS[0]][0],
        )
        for step in STEPS
    ]
    by_step = hand.sums(lambda one: (hand.time(one), one.step))
    rates = {(row["time"], row["metric"]): row["rate"] for row in counted(found["Rate by step A"])}
    assert rates == closed(by_step)
    assert {(row["time"], row["metric"]): row["impressions"] for row in counted(found["Shown A"])} == {
        group: tally[0] for group, tally in by_step.items()
    }
    for name in DIMENSIONS:
        by = hand.sums(lambda one, name=name: (one.step, hand.value(one, name)))
        expected = {group: pytest.approx(with_interval(tally)) for group, tally in by.items()}
        assert shown(found[f"By {name} A"]) == expected, name
    assert [place for place in found if place.startswith("By ") and "together" not in place] == [
        f"By {name} A" for name in DIMENSIONS
    ]


@pytest.mark.parametrize("level", ["windows", "1h"])
@pytest.mark.parametrize("choice", CHOICES)
def test_what_is_expected_is_filtered_too(filled: Database, choice: str, level: str) -> None:
    """The rate at the same time of the four weeks before, of what is chosen."""
    past: dict[tuple[datetime, str], list[int]] = {}
    for weeks in range(1, 5):
        hand = ByHand(level, CHOICES[choice], shift_ms=weeks * WEEK_MS)
        for (bucket, step), tally in hand.sums(lambda one, hand=hand: (hand.bucket(one), one.step)).items():
            kept = past.setdefault((at(bucket + weeks * WEEK_MS), f"{step} (expected)"), [0] * 5)
            kept[:] = [a + b for a, b in zip(kept, tally, strict=True)]
    view = look(filled, "funnel", level, CHOICES[choice])
    found = answers(filled, view, document("funnel"))["Rate by step B"]
    assert {(row["time"], row["metric"]): row["expected"] for row in counted(found)} == {
        place: rate(tally) for place, tally in past.items()
    }


@pytest.mark.parametrize("level", RANGES)
@pytest.mark.parametrize("choice", CHOICES)
def test_a_step_is_taken_apart_as_a_group_by_does(filled: Database, choice: str, level: str) -> None:
    """Rate, verdicts, cohorts, time to convert, and a line for each value of each dimension, of what is chosen."""
    chosen = CHOICES[choice]
    view = look(filled, "step", level, chosen, step=["2 pay"])
    found, hand = answers(filled, view, document("step")), ByHand(level, chosen, ["2 pay"])
    over_time = hand.sums(hand.time)
    assert {row["time"]: row["rate"] for row in counted(found["Rate A"])} == closed(over_time)
    verdicts = {row["time"]: (row["successes"], row["failures"], row["no verdict"]) for row in found["Verdicts A"]}
    assert {time: verdict for time, verdict in verdicts.items() if any(verdict)} == {
        time: (*tally[1:3], max(tally[0] - tally[1] - tally[2], 0)) for time, tally in over_time.items()
    }
    mature = at(CLOSED - 3 * MINUTE_MS)
    rates = {time: tally[3] / tally[0] for time, tally in over_time.items() if time <= mature}
    cohorts = {row["time"]: row["cohort rate"] for row in found["Cohort rate A"] if row["cohort rate"] is not None}
    assert cohorts == rates
    times: dict[datetime, list[int]] = {}
    for one in hand.counts:
        times.setdefault(hand.time(one), []).extend(one.durations)
    quantiles = counted(found["Time to convert A"])
    assert [row["time"] for row in quantiles] == sorted(times)
    for row in quantiles:
        took = sorted(times[row["time"]])
        for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            assert row[name] == pytest.approx(took[ceil(q * len(took)) - 1], rel=1 / 8)
    for name in DIMENSIONS:
        by = hand.sums(lambda one, name=name: (hand.time(one), hand.value(one, name)))
        lines = {(row["time"], row["metric"]): row["rate"] for row in counted(found[f"Rate by {name} A"])}
        assert lines == closed(by), name


@pytest.mark.parametrize("level", ["windows", "1d"])
@pytest.mark.parametrize("by", BREAKDOWNS, ids="+".join)
def test_several_dimensions_break_down_together(filled: Database, by: tuple[str, ...], level: str) -> None:
    """A row and a line for each combination of values, in the order in which the dimensions are chosen."""
    chosen = CHOICES["quotes"]
    title = " + ".join(by)
    view = look(filled, "funnel", level, chosen, by=list(by))
    hand = ByHand(level, chosen)
    sums = hand.sums(lambda one: (one.step, hand.value(one, *by)))
    found = answers(filled, view, document("funnel"))[f"By {title} together A"]
    assert shown(found) == {group: pytest.approx(with_interval(tally)) for group, tally in sums.items()}
    assert {len(row["value"].split(" · ")) for row in found} == {len(by)}
    view = look(filled, "step", level, chosen, by=list(by), step=["1 cart"])
    hand = ByHand(level, chosen, ["1 cart"])
    rows = answers(filled, view, document("step"))[f"Rate by {title} together A"]
    assert {(row["time"], row["metric"]): row["rate"] for row in counted(rows)} == closed(
        hand.sums(lambda one: (hand.time(one), hand.value(one, *by)))
    )
