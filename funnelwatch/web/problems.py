"""What goes wrong, told as problem details (RFC 9457): what is wrong, with what, and what would be right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import psycopg
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from funnelwatch.query.rates import BadQueryError, NothingThereError
from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.funnels import FunnelsFileError
from funnelwatch.schemas.redaction import error_clause
from funnelwatch.sinks.errors import BusyError, is_transient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request

MEDIA_TYPE = "application/problem+json"
RETRY_S = 5


class Wrong(BaseModel):
    """One thing that is wrong with a request."""

    parameter: str = Field(description="The parameter's name.")
    message: str = Field(description="What is wrong with it, or what would be right.")


class Problem(BaseModel):
    """Why there is no answer (RFC 9457)."""

    type: Literal["about:blank"] = "about:blank"
    title: str = Field(description="The kind of problem, the same for each status.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong and what would be right, for a person.")
    errors: list[Wrong] = Field(default=[], description="Each parameter that is wrong.")


class ProblemError(FunnelwatchError):
    """To be answered with a problem.

    Args:
        problem: the answer's body and status.
        headers: further headers of the answer.
    """

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = headers


TITLES = {
    404: "There is no such thing",
    405: "This can only be read",
    406: "No such format",
    422: "The question cannot be answered",
    503: "Not now",
}

RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description, "content": {MEDIA_TYPE: {}}}
    for status, description in (
        (400, "The request is for another host, or no proper request."),
        (404, "Only complete windows were asked for (`closed`), and none is; or there is no such counter or timer."),
        (406, "The Accept header allows neither JSON nor CSV."),
        (422, "A parameter is wrong; `errors` names it and says what would be right."),
        (503, "The database is away, busy, or took too long; try again."),
    )
}
"""What every question may be answered with, for the description of the API."""


def wrong(parameter: str, message: str) -> ProblemError:
    """A parameter is wrong."""
    return ProblemError(_unanswerable([Wrong(parameter=parameter, message=message)]))


def install(app: FastAPI) -> None:
    """Have the app tell whatever goes wrong as a problem."""

    async def handle(_request: Request, error: Exception) -> JSONResponse:
        problem, headers = problem_of(error)
        return JSONResponse(problem.model_dump(), problem.status, headers, MEDIA_TYPE)

    kinds = (BadQueryError, NothingThereError, BusyError, FunnelsFileError)
    for kind in (ProblemError, RequestValidationError, HTTPException, psycopg.Error, *kinds):
        app.add_exception_handler(kind, handle)


def problem_of(error: Exception) -> tuple[Problem, Mapping[str, str] | None]:
    """What to tell of an error, and headers that go with it.

    Raises:
        Exception: the error itself, where it is a fault of this program.
    """
    match error:
        case ProblemError():
            return error.problem, error.headers
        case BadQueryError():
            problem = _unanswerable([Wrong(parameter=error.parameter, message=error.message)])
        case RequestValidationError():
            problem = _unanswerable([_wrong(one) for one in error.errors()])
        case NothingThereError():
            problem = Problem(title=TITLES[404], status=404, detail=str(error))
        case HTTPException():
            title = TITLES.get(error.status_code, str(error.detail))
            return Problem(title=title, status=error.status_code, detail=str(error.detail)), error.headers
        case _:
            problem = Problem(title=TITLES[503], status=503, detail=_outage(error))
    return problem, {"Retry-After": str(RETRY_S)} if problem.status == 503 else None  # noqa: PLR2004


def _outage(error: Exception) -> str:
    """What is away, in a sentence; raises what is no outage."""
    match error:
        case BusyError() | FunnelsFileError():
            return str(error)
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


def _unanswerable(errors: list[Wrong]) -> Problem:
    detail = "; ".join(f"{one.parameter}: {one.message}" for one in errors)
    return Problem(title=TITLES[422], status=422, detail=detail, errors=errors)


def _wrong(error: Mapping[str, Any]) -> Wrong:
    names = [str(part) for part in error["loc"][1:] if isinstance(part, str)]
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "there is no such parameter here"
    return Wrong(parameter=names[0] if names else str(error["loc"][0]), message=message)
