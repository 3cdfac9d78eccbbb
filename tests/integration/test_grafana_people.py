"""The panels about people against counts that are added up by hand: on plain PostgreSQL and on TimescaleDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.schemas.funnels import SESSION_WINDOW_MS, Funnel
from funnelwatch.sinks.timescale.declared import declare
from tests.filling import MINUTE_MS, count_in
from tests.grafana import View, answers, dashboard
from tests.integration.test_grafana import CLOSED, FUNNEL, RANGES, STEPS, ByHand, at, counted, fill, rows_of
from tests.integration.test_views import T

if TYPE_CHECKING:
    from funnelwatch.sinks.timescale.database import Database

MATURE = CLOSED - SESSION_WINDOW_MS


@pytest.fixture(scope="module")
def people_plain(plain: Database) -> Database:
    """Plain PostgreSQL, filled."""
    fill(plain)
    return plain


@pytest.fixture(scope="module")
def people_extended(extended: Database) -> Database:
    """TimescaleDB, filled."""
    fill(extended)
    return extended


@pytest.fixture(params=["plain", "extended"])
def filled(request: pytest.FixtureRequest) -> Database:
    """Both, one after the other."""
    database: Database = request.getfixturevalue(f"people_{request.param}")
    return database


def bars(reached: list[int], completed: list[int], young: list[int]) -> list[tuple[str, Any]]:
    """The bars of a funnel."""
    names = [
        f"{step} ({open_ones} of {number} still open)" if open_ones else step
        for step, number, open_ones in zip(STEPS, reached, young, strict=True)
    ]
    shares = [number / reached[0] for number in (*reached, completed[-1])]
    return list(zip((*names, "Completed"), map(pytest.approx, shares), strict=True))


@pytest.mark.parametrize("level", RANGES)
@pytest.mark.parametrize("chosen", [{}, {"os": ["Android"], "step": ["pay"]}], ids=["all", "android"])
def test_the_funnel_of_people_is_in_order_and_names_what_is_still_open(
    filled: Database, level: str, chosen: dict[str, list[str]]
) -> None:
    """By entries of the chosen dimensions; a choice of steps leaves the funnel whole."""
    found, hand = rows_of(filled, "funnel", level, **chosen), ByHand(level)
    width = RANGES[level][2]

    def sums(column: int, *, young: bool = False) -> list[int]:
        return [
            sum(
                tally[column]
                for key, tally in hand.counts.items()
                if key[1] == step
                and (not chosen or key[2] in chosen["os"])
                and (not young or hand.bucket(key) + width > MATURE)
            )
            for step in STEPS
        ]

    reached, completed, young = sums(7), sums(8), sums(7, young=True)
    assert 0 < young[0] < reached[0] or level == "1h"
    shown = [(row["name"], row["share"]) for row in found["People: how far they come A"]]
    assert shown == bars(reached, completed, young)
    following = [*reached[1:], completed[-1]]
    assert [tuple(row.values()) for row in found["People by step A"]] == [
        (
            step,
            reached[place],
            pytest.approx(reached[place] / reached[0]),
            pytest.approx(reached[place] / reached[place - 1]) if place else None,
            reached[place] - following[place],
            completed[place],
            young[place],
        )
        for place, step in enumerate(STEPS)
    ]


@pytest.mark.parametrize("level", RANGES)
def test_rates_by_sessions_over_time_are_lines_of_their_own_while_they_are_open(filled: Database, level: str) -> None:
    """Session successes by sessions of each bucket, of closed windows; in no bucket above 100 %."""
    found, hand = rows_of(filled, "funnel", level), ByHand(level)
    by_step = hand.sums(lambda key: (hand.bucket(key), key[1]))
    expected = {
        (at(start), step if start + RANGES[level][2] <= MATURE else f"{step} (still open)"): tally[6] / tally[5]
        for (start, step), tally in by_step.items()
        if start < CLOSED
    }
    rates = {(row["time"], row["metric"]): row["rate"] for row in counted(found["Rate by step, by sessions A"])}
    assert rates == pytest.approx(expected)
    assert any("still open" in step for _, step in rates)
    assert max(rates.values()) <= 1


def test_a_step_that_more_sessions_reached_than_the_one_before_has_no_share(filled: Database) -> None:
    """Its funnel was declared in another order when it was counted."""
    funnel, window = "reordered", T + MINUTE_MS
    reached = {"a": 10, "b": 30, "c": 5}
    tallies = {(window, step, "", "", ""): (9, 9, 0, 9, 0, 9, 9, number, 2) for step, number in reached.items()}
    count_in(filled, tallies, funnel=funnel, closed_through=CLOSED)
    declare(filled, {FUNNEL: Funnel(STEPS), funnel: Funnel(tuple(reached))})
    view, document = View(*RANGES["windows"][:2]), dashboard("funnel")
    view.choose(filled, document, {"funnel": [funnel]})
    found = answers(filled, view, document)
    assert [row["share"] for row in found["People: how far they come A"]] == [1, None, 0.5, 0.2]
    assert [(row["reached"], row["survival"], row["dropped"]) for row in found["People by step A"]] == [
        (1, None, None),
        (None, None, 25),
        (0.5, pytest.approx(1 / 6), 3),
    ]
