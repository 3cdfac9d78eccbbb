"""Parameters that name dimensions, and the rows that have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funnelwatch.cli.rate import some, typed_filters, typed_name
from funnelwatch.query.parameters import (
    MOST_BY,
    MOST_VALUES,
    BadQueryError,
    UnknownDimensionError,
    parse_by,
    parse_filters,
)
from funnelwatch.query.rate_query import RateQuery
from funnelwatch.query.rates import in_order
from funnelwatch.query.results import FIELDS, RateResult
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS, DIMENSION_NAME, RESERVED
from funnelwatch.schemas.funnels import BUILT_IN, DeclaredFunnels, Funnel, dimensions_of
from funnelwatch.sinks.timescale.rates import Rate, Scope
from funnelwatch.web.api.funnel import ConversionRow, StepRow
from funnelwatch.web.api.rates import RateRow
from funnelwatch.web.api.timers import TimerRow

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = st.from_regex(DIMENSION_NAME, fullmatch=True).filter(lambda name: name not in RESERVED)
DECLARED = DeclaredFunnels({"f": Funnel(("A",), ("country", "os")), "none": Funnel(("A",), ())})


@pytest.mark.parametrize(
    ("funnel", "stored", "dimensions"),
    [
        ("f", (), ("country", "os")),
        ("f", ("os", "plan", "browser"), ("country", "os", "browser", "plan")),
        ("none", (), ()),
        ("none", ("os",), ("os",)),
        ("undeclared", (), DIMENSION_FIELDS),
        ("undeclared", ("country",), (*DIMENSION_FIELDS, "country")),
    ],
)
def test_a_funnel_has_its_declared_dimensions_and_those_of_stored_series(
    funnel: str, stored: tuple[str, ...], dimensions: tuple[str, ...]
) -> None:
    """Declared ones in their order, others by name; an undeclared funnel has the fields of events."""
    assert dimensions_of(funnel, DECLARED, stored) == dimensions


def test_the_built_in_funnel_has_the_fields_of_events() -> None:
    """Without a funnels file."""
    assert dimensions_of("sign_up", BUILT_IN) == DIMENSION_FIELDS


def test_names_to_group_by_are_separated_by_commas_or_repeated() -> None:
    """Each once, in their order; every result is by step anyway."""
    assert parse_by([]) == ()
    assert parse_by(["os,country", "plan", " os , step"]) == ("os", "country", "plan")
    assert len(parse_by([f"d{number}" for number in range(MOST_BY)])) == MOST_BY


@given(st.lists(NAMES, min_size=1, max_size=MOST_BY, unique=True))
def test_any_names_of_dimensions_can_be_grouped_by(names: list[str]) -> None:
    """As one parameter and as several."""
    assert parse_by([",".join(names)]) == parse_by(names) == tuple(names)


@given(st.lists(st.tuples(NAMES | st.just("step"), st.text(min_size=1).filter(lambda text: text[-1] != "\\"))))
def test_any_values_can_be_selected(pairs: list[tuple[str, str]]) -> None:
    """By one option each, or by one option for a name, in which a comma within a value is escaped."""
    wanted: dict[str, list[str]] = {}
    for name, value in pairs:
        wanted.setdefault(name, []).append(value)
    assert parse_filters(f"{name}={value}" for name, value in pairs) == wanted
    escaped = {name: ",".join(value.replace(",", "\\,") for value in values) for name, values in wanted.items()}
    assert parse_filters(typed_filters([f"{name}={values}" for name, values in escaped.items()])) == wanted


def test_options_are_written_as_people_write_them() -> None:
    """App-Version is app_version; values keep their hyphens."""
    assert typed_name("App-Version,OS") == "app_version,os"
    assert list(typed_filters(["App-Version=1.0-rc,B", "country="])) == [
        "app_version=1.0-rc",
        "app_version=B",
        "country=",
    ]


@pytest.mark.parametrize(
    ("parse", "texts", "message"),
    [
        (parse_by, ["Os"], "by: Os: is not the name of a dimension"),
        (parse_by, ["os,"], "by: : is not the name of a dimension"),
        (parse_by, ["ts"], "by: ts: is a field of an event"),
        (parse_by, ["a,b,c,d,e,f"], "by: 6 dimensions; group by at most 5"),
        (parse_filters, ["os"], "where: 'os' is not NAME=VALUE"),
        (parse_filters, ["=x"], "where: : is not the name of a dimension"),
        (parse_filters, ["event_id=x"], "where: event_id: is a field of an event"),
    ],
)
def test_a_wrong_name_is_rejected(parse: Callable[[list[str]], object], texts: list[str], message: str) -> None:
    """The message names the parameter and what is wrong."""
    with pytest.raises(BadQueryError, match=f"^{message}"):
        parse(texts)


def test_filters_have_a_limited_number_of_values() -> None:
    """Over all dimensions; the same value twice is one."""

    def query(*values: int) -> RateQuery:
        filters = {"os": map(str, range(values[0])), "country": map(str, range(values[1]))}
        return RateQuery.parse(Scope("f", filters), 0, since="1h", until="now")

    assert sum(map(len, query(40, MOST_VALUES - 40).scope.filters.values())) == MOST_VALUES
    with pytest.raises(BadQueryError, match="where: 101 values; select at most 100"):
        query(40, MOST_VALUES - 39)


def test_a_scope_adds_up_its_filters() -> None:
    """Values of a map and keywords; None is any value."""
    scope = Scope("f", {"os": ["iOS", "Android", "iOS"]}, os="Web", step="A", browser=None, country="")
    assert scope.filters == {"os": ("iOS", "Android", "Web"), "step": ("A",), "country": ("",)}
    assert Scope("f", {"os": ["iOS"]}, os="iOS").filters == {"os": ("iOS",)}


def test_an_unknown_dimension_is_named_with_those_that_there_are() -> None:
    """Also where there is none; a long name is cut."""
    assert str(UnknownDimensionError("by", "x", "f", ("a", "b"))) == "by: 'x' is no dimension of f; right would be a, b"
    assert str(UnknownDimensionError("by", "x", "f", ())).endswith("no dimension of f; it has none")
    assert len(str(UnknownDimensionError("by", "x" * 10_000, "f", ()))) < 200


def test_rows_are_sorted_by_the_values_in_the_order_of_by() -> None:
    """Then by time; a span without counts has the values of its group."""
    found = [
        Rate("A", {"plan": "p", "country": "DE"}, 1, start_ms=0),
        Rate("A", {"plan": "p", "country": "AT"}, 2, start_ms=10),
        Rate("A", {"plan": "", "country": "DE"}, 3, start_ms=0),
    ]
    rows = in_order(found, ("A",), (), range(0, 20, 10), ("plan", "country"))
    assert [(*row.dimensions.items(), row.start_ms, row.impressions) for row in rows] == [
        (("plan", ""), ("country", "DE"), 0, 3),
        (("plan", ""), ("country", "DE"), 10, 0),
        (("plan", "p"), ("country", "AT"), 0, 0),
        (("plan", "p"), ("country", "AT"), 10, 2),
        (("plan", "p"), ("country", "DE"), 0, 1),
        (("plan", "p"), ("country", "DE"), 10, 0),
    ]


def test_a_dimension_never_hides_another_field_of_a_row() -> None:
    """A dimension called like a field has a prefix, in rows and in CSV; ``FIELDS`` has every field of a row."""
    by = ("rate", "country", "start")
    query = RateQuery(Scope("f"), 0, 60_000, 60_000, by)
    result = RateResult(
        query, 0, 60_000, 60_000, None, [Rate("A", dict(zip(by, "xyz", strict=True)), 4, 1)], found=True
    )
    [row] = result.rows()
    assert (row["rate"], row["dimensions.rate"], row["country"], row["dimensions.start"]) == (0.25, "x", "y", "z")
    assert list(row) == result.columns()
    assert result.as_csv().startswith("step,dimensions.rate,country,dimensions.start,impressions,")
    models = (RateRow, TimerRow, StepRow, ConversionRow)
    assert {name for model in models for name in model.model_fields} == FIELDS


def test_a_long_list_of_values_is_cut() -> None:
    """With the number of the rest; no value is (none)."""
    assert some(["", "a"]) == "(none), a"
    assert some([str(number) for number in range(25)]).endswith("19, 5 more")
