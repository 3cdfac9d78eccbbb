"""What may be chosen on dashboards for dimensions of a deployment, and what a choice can never do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from funnelwatch.sinks.timescale.alerts import AlertStore
from tests.filling import MINUTE_MS
from tests.grafana import ALL, View, answers
from tests.grafana_shop import (
    COTE,
    DIMENSIONS,
    FUNNEL,
    MACRO,
    OTHER,
    STATEMENT,
    STEPS,
    VALUES,
    VARIABLES,
    ByHand,
    Chosen,
    document,
    fill,
    look,
    shown,
    with_interval,
)
from tests.integration.test_grafana import RANGES, at
from tests.integration.test_views import T, message

if TYPE_CHECKING:
    from funnelwatch.sinks.timescale.database import Database


@pytest.fixture(scope="module")
def choices_plain(plain: Database) -> Database:
    """Plain PostgreSQL, filled."""
    fill(plain)
    return plain


@pytest.fixture(scope="module")
def choices_extended(extended: Database) -> Database:
    """TimescaleDB, filled."""
    fill(extended)
    return extended


@pytest.fixture(params=["plain", "extended"])
def filled(request: pytest.FixtureRequest) -> Database:
    """Both, one after the other."""
    database: Database = request.getfixturevalue(f"choices_{request.param}")
    return database


def test_values_and_dimensions_are_those_of_the_funnel(filled: Database) -> None:
    """Each value once, (none) last and where a series lacks the dimension; a dimension of another funnel has none."""
    view = look(filled, "funnel", "windows", {})
    for name, values in VALUES.items():
        offered = {value for value in values if value not in {None, MACRO}}
        assert set(view.options[VARIABLES[name]]) == offered | ({"(none)"} if None in values else set())
        assert len(view.options[VARIABLES[name]]) == len(set(view.options[VARIABLES[name]]))
        assert None not in values or view.options[VARIABLES[name]][-1] == "(none)"
    assert view.options["os"] == []
    assert view.options["dimension"] == list(DIMENSIONS)
    assert view.chosen["by"] == ["country", "plan"]


@pytest.mark.parametrize("chosen", [{}, {"country": ["DE"], "plan": ["pro", "(none)"], "BY": ["web"]}])
def test_a_dimension_that_the_funnel_does_not_have_filters_nothing(filled: Database, chosen: Chosen) -> None:
    """Only All is offered for it, and a value that a link still has is ignored; the funnel's own dimension filters."""
    view = View(*RANGES["windows"][:2])
    view.choose(filled, document("funnel"), {"funnel": [OTHER], "os": ["US", COTE]})
    assert {name for name in VARIABLES.values() if view.options[name] or view.chosen[name] != [ALL]} == set()
    assert view.options["dimension"] == ["os"]
    view.chosen |= chosen
    found = answers(filled, view, document("funnel"))
    hand = ByHand("windows", {"country": ["US", COTE]})  # the other funnel calls the first dimension os
    assert shown(found["By os A"]) == {
        group: pytest.approx(with_interval(tally))
        for group, tally in hand.sums(lambda one: (one.step, hand.value(one, "country"))).items()
    }
    assert not [place for place in found if place.startswith("By country A")]


@pytest.mark.parametrize("value", [STATEMENT, "') OR true --", "\\'", '"', "\\", "{}", "' || (SELECT 1) || '", "%s"])
@pytest.mark.parametrize("variable", ["country", "BY", "step", "funnel", "by"])
def test_no_value_leaves_its_quotes(filled: Database, variable: str, value: str) -> None:
    """Whatever a link names is a value: nothing has it, or the series that are called so."""
    view = look(filled, "funnel", "windows", {})
    view.chosen |= {variable: [value]}
    found = answers(filled, view, document("funnel"))
    if variable == "by":
        assert {row["value"] for row in found[f"By {value} together A"]} == {"(none)"}
        return
    of = [one for one in ByHand("windows", {}).counts if variable == "country" and one.series[0] == value]
    assert sum(row["impressions"] for row in found["Steps A"]) == sum(one.tally[0] for one in of)
    assert bool(found["Steps A"]) == bool(of)


def test_what_grafana_would_take_for_a_macro_is_counted_and_not_offered(filled: Database) -> None:
    """It could leave its quotes where it is chosen; All does not write values into the query."""
    hand = ByHand("windows", {})
    view = look(filled, "funnel", "windows", {})
    found = shown(answers(filled, view, document("funnel"))["By country A"])
    sums = hand.sums(lambda one: (one.step, hand.value(one, "country")))
    assert {step for step, value in found if value == MACRO} == set(STEPS)
    assert found["2 pay", MACRO] == pytest.approx(with_interval(sums["2 pay", MACRO]))
    assert MACRO not in view.options["country"]
    with filled.transaction() as cursor:
        cursor.execute("INSERT INTO funnel_progress (funnel) VALUES (%s)", [MACRO])
    view.choose(filled, document("funnel"), {"funnel": [FUNNEL]})
    with filled.transaction() as cursor:
        cursor.execute("DELETE FROM funnel_progress WHERE funnel = %s", [MACRO])
    assert MACRO not in view.options["funnel"]


ALERTS = {
    "german": {"country": "DE", "level": "gold"},
    "quoted": {"country": COTE},
    "macro": {"country": MACRO},
    "pro": {"plan": "pro"},
    "everybody": {},
}


@pytest.fixture
def alerted(filled: Database) -> Database:
    """The same with alerts of several dimensions, ten minutes after each other."""
    for place, (name, dimensions) in enumerate(ALERTS.items()):
        started = T + place * 10 * MINUTE_MS
        alert = message(FUNNEL, name, 0, step=STEPS[0], dimensions=dimensions, started_at=started)
        AlertStore(filled).save(FUNNEL, T, {}, [alert])
    return filled


@pytest.mark.parametrize(
    ("chosen", "shown_of"),
    [
        ({}, set(ALERTS)),
        ({"country": ["DE"]}, {"german", "pro", "everybody"}),
        ({"country": [COTE, "US"], "plan": ["team"]}, {"quoted", "everybody"}),
        ({"country": ["DE"], "level": ["none"]}, {"pro", "everybody"}),
    ],
)
def test_alerts_are_those_about_what_is_chosen(alerted: Database, chosen: Chosen, shown_of: set[str]) -> None:
    """In tables, numbers and shaded times; an alert that is about all values is about those that are chosen."""
    started = {at(T + place * 10 * MINUTE_MS) for place, name in enumerate(ALERTS) if name in shown_of}
    found = answers(alerted, look(alerted, "alerts", "windows", chosen), document("alerts"))
    assert {row["started_at"] for row in found["Alerts A"]} == started
    assert [row["firing"] for row in found["Firing now A"]] == [len(shown_of)]
    assert [row["alerts"] for row in found["Lost A"]] == [len(shown_of)]
    assert {row["alert_id"] for row in found["Messages A"]} == shown_of
    for name in ("funnel", "step"):
        view = look(alerted, name, "windows", chosen, step=[STEPS[0]])
        assert {row["time"] for row in answers(alerted, view, document(name))["Alerts (annotation)"]} == started


def test_an_alert_leads_to_its_dimensions_but_to_nothing_that_reads_like_a_macro(alerted: Database) -> None:
    """A link's value is not held against the options; such an alert leads to all values."""
    rows = answers(alerted, look(alerted, "alerts", "windows", {}), document("alerts"))["Alerts A"]
    names = [f"of_{name}" for name in (*DIMENSIONS, "os")]
    assert [(row["dimensions"], *(row[name] for name in names if row[name] != "All")) for row in reversed(rows)] == [
        ("country = DE, level = gold", "DE", "gold"),
        (f"country = {COTE}", COTE),
        (f"country = {MACRO}",),
        ("plan = pro", "pro"),
        ("all",),
    ]
