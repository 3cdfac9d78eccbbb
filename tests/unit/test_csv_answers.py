"""CSV answers: what events say is text, in a spreadsheet too."""

from __future__ import annotations

import csv
import io

import pytest

from funnelwatch.query.metrics import MetricQuery, MetricResult
from funnelwatch.query.rate_query import RateQuery
from funnelwatch.query.results import RateResult, as_csv
from funnelwatch.sinks.timescale.metric_counts import MetricTotal
from funnelwatch.sinks.timescale.rates import Rate, Scope

FORMULAS = [
    '=HYPERLINK("http://evil.example","x")',
    "=1+1",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "\uff1d1+1",
    "\ufeff=1",
    "\u200b=1",
    "\x01=1",
    "\u202e=1",
    "\xad+1+1",
    "-",
    "+49 170 1234567",
    "-1e3",
]
PLAIN = ["", "iOS", "1.0", "-1", "+1", "-2.5", "a=b", "a-b", "x@y", "'=1", "{}", "a\r=1", "a\n=1", 'say "hi"', "a,b"]


def cells(text: str) -> list[list[str]]:
    """The cells as a program reads them."""
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_would_be_a_formula_has_an_apostrophe(text: str) -> None:
    """In rows and in the header."""
    assert cells(as_csv(["os", text], [{"os": text, text: 1}])) == [["os", f"'{text}"], [f"'{text}", "1"]]


@pytest.mark.parametrize("text", PLAIN)
def test_any_other_text_is_as_it_is(text: str) -> None:
    """And so is what has a line break in it: one row stays one row."""
    assert cells(as_csv(["os", "n"], [{"os": text, "n": 1}]))[1] == [text, "1"]


def test_numbers_are_as_they_are() -> None:
    """A negative number is no formula, and None is empty."""
    rows = [{"a": -1, "b": -0.5, "c": 1e-7, "d": None, "e": True}]
    assert cells(as_csv(list("abcde"), rows))[1] == ["-1", "-0.5", "1e-07", "", "True"]


def test_rates_and_counters_are_neutralized() -> None:
    """As the query API and the command line give them."""
    question = RateQuery(Scope("f"), 0, 60_000, 60_000, ("os",))
    rates = RateResult(question, 0, 60_000, 60_000, None, [Rate("=A", {"os": "@x"}, 2, 1)], True)
    assert cells(rates.as_csv())[1][:5] == ["'=A", "'@x", "2", "1", "0"]
    asked = MetricQuery("sms", 0, 60_000, 60_000, ("os",))
    total = MetricTotal("sms", "COUNTER", {"os": "=1"}, 1, 3, {}, 0)
    metrics = MetricResult(asked, 0, 60_000, 60_000, [total])
    assert cells(metrics.as_csv())[1][2] == "'=1"
