"""Errors of queries, the database and request validation as problem details (RFC 9457)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from fastapi.exceptions import RequestValidationError

from funnelwatch.producers.http import problem
from funnelwatch.producers.http.problem import (
    MEDIA_TYPE,
    InvalidParameter,
    Problem,
    ProblemDetails,
    as_problem,
    invalid,
    invalid_parameters,
)
from funnelwatch.query.parameters import BadQueryError
from funnelwatch.query.rates import NoDataError
from funnelwatch.schemas.funnels import FunnelsFileError
from funnelwatch.schemas.redaction import error_clause
from funnelwatch.sinks.errors import BusyError, is_transient
from funnelwatch.web.board.hub import FullError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI

RETRY_S = 5.0

RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemDetails, "description": description, "content": {MEDIA_TYPE: {}}}
    for status, description in (
        (400, "The Host header names another host, or the request is malformed."),
        (404, "The query wants complete windows, and none is; or there is no such counter, timer or declared funnel."),
        (406, "The Accept header allows neither JSON nor CSV."),
        (422, "A parameter is invalid; `errors` names the parameter and gives a valid value."),
        (503, "The database is unreachable, busy, or took too long; try again."),
    )
}
"""Error responses of every query, for the OpenAPI description."""


def install(app: FastAPI) -> None:
    """Answer errors of the app with problem details."""
    errors = (BadQueryError, NoDataError, BusyError, FullError, FunnelsFileError)
    problem.install(app, problem_of, (RequestValidationError, psycopg.Error, *errors))


def problem_of(error: Exception) -> Problem:
    """The problem response of an error.

    Raises:
        Exception: the error itself: it is a bug.
    """
    match error:
        case BadQueryError():
            return invalid(error.parameter, error.message)
        case RequestValidationError():
            return invalid_parameters(*(_invalid(one) for one in error.errors()))
        case NoDataError():
            return Problem(404, str(error))
        case BusyError() | FullError() | FunnelsFileError():
            return Problem(503, str(error), retry_after_s=RETRY_S)
        case psycopg.Error():
            return Problem(503, _outage(error), retry_after_s=RETRY_S)
    return as_problem(error)


def _outage(error: psycopg.Error) -> str:
    """Why the database gives no result, in a sentence; raises an error that is no outage."""
    match error:
        case psycopg.errors.QueryCanceled():
            return "the database took too long for this; ask for a shorter range, or one step of one funnel"
        case psycopg.errors.UndefinedTable():
            return "the database has no tables of funnelwatch yet; a worker makes them when it starts"
        case psycopg.errors.InsufficientPrivilege():
            return f"the database does not let this server read: {error_clause(error)}"
        case psycopg.OperationalError() if (error.sqlstate or "")[:2] in {"40", "53", "55"}:
            return "the database is busy; ask again in a moment"
        case _ if is_transient(error):
            return "the database does not answer"
    raise error


def _invalid(error: Mapping[str, Any]) -> InvalidParameter:
    names = [str(part) for part in error["loc"][1:] if isinstance(part, str)]
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "no such parameter"
    return InvalidParameter(parameter=names[0] if names else str(error["loc"][0]), message=message)
