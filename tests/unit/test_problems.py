"""What the query API tells of each thing that goes wrong, without a server."""

from __future__ import annotations

import psycopg
import pytest
from starlette.exceptions import HTTPException

from funnelwatch.producers.http.problem import Problem, invalid
from funnelwatch.query.parameters import BadQueryError
from funnelwatch.query.rates import NoDataError
from funnelwatch.schemas.funnels import FunnelsFileError
from funnelwatch.schemas.web_hosts import host_name
from funnelwatch.web.api.parameters import accepted
from funnelwatch.web.pool import PoolBusyError
from funnelwatch.web.problems import problem_of


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (BadQueryError("every", "must be a multiple"), 422, "every: must be a multiple"),
        (invalid("since", "is no time"), 422, "since: is no time"),
        (NoDataError("no window is complete"), 404, "no window is complete"),
        (HTTPException(404), 404, "Not Found"),
        (PoolBusyError("all connections are in use"), 503, "all connections are in use"),
        (FunnelsFileError("funnels.yml: is not YAML"), 503, "funnels.yml: is not YAML"),
        (psycopg.errors.QueryCanceled("statement timeout"), 503, "took too long"),
        (psycopg.errors.UndefinedTable("window_counts"), 503, "a worker makes them"),
        (psycopg.errors.InsufficientPrivilege("window_counts"), 503, "does not let this server read"),
        (psycopg.OperationalError("password of me is secret"), 503, "the database does not answer"),
    ],
)
def test_each_error_has_its_status_and_says_what_to_do(error: Exception, status: int, told: str) -> None:
    """What may pass says when to come again; nothing of the database's own words is passed on with an outage."""
    problem = problem_of(error)
    assert (problem.status, told in problem.detail) == (status, True)
    assert (problem.headers == {"Retry-After": "5"}) is (status == 503)
    assert "secret" not in problem.detail


def test_a_bug_is_not_hidden() -> None:
    """It is raised, so that it is logged and seen."""
    with pytest.raises(psycopg.errors.SyntaxError):
        problem_of(psycopg.errors.SyntaxError("at or near"))


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("text/csv", "csv"),
        ("text/csv, application/json;q=0.9", "csv"),
        ("text/*, application/json;q=0.5", "csv"),
        ("application/json, text/csv", "json"),
        ("*/*;q=0.1, text/csv;q=0.2", "csv"),
        ("text/csv;q=0, */*", "json"),
        ("text/csv;q=nonsense, application/json;q=0.1", "json"),
    ],
)
def test_the_form_that_the_client_prefers_is_taken(header: str, form: str) -> None:
    """As RFC 9110 has it: by weight, and the more exact pattern says what holds."""
    assert accepted(header) == form


@pytest.mark.parametrize("header", ["text/html", "application/json;q=0, text/csv;q=0", "*/*;q=0"])
def test_what_allows_neither_form_is_not_acceptable(header: str) -> None:
    """406, and it says which there are."""
    with pytest.raises(Problem, match="application/json and text/csv"):
        accepted(header)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost:8060", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]:8060", "::1"),
        ("EVIL.example:1", "evil.example"),
    ],
)
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    """Without the port, whatever its form."""
    assert host_name(header) == name
