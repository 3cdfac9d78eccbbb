"""Problem details (RFC 9457): the body of every error response of the collector, the query API and the board."""

from __future__ import annotations

import json
from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from funnelwatch.schemas.errors import FunnelwatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fastapi import FastAPI
    from starlette.requests import Request

MEDIA_TYPE = "application/problem+json"
LONGEST_DETAIL = 2_000
"""Characters of a detail: the detail quotes the request."""


class AsciiJson(JSONResponse):
    """JSON in ASCII: a field name in a request may hold characters that UTF-8 cannot encode."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content, separators=(",", ":")).encode("ascii")


class InvalidParameter(BaseModel):
    """One invalid parameter of a request."""

    parameter: str = Field(description="The parameter's name.")
    message: str = Field(description="Why the parameter is invalid, or which value is valid.")


class ProblemDetails(BaseModel):
    """Why a request fails (RFC 9457)."""

    type: Literal["about:blank"] = "about:blank"
    title: str = Field(description="The phrase of the HTTP status.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="The error and its remedy, for a person.")
    errors: list[InvalidParameter] = Field(default=[], description="Each invalid parameter.")


class Problem(FunnelwatchError):  # noqa: N818 - the term of RFC 9457
    """A request fails; the server answers with problem details (RFC 9457).

    Args:
        status: HTTP status.
        detail: what is wrong and what would be right.
        errors: each invalid parameter, where parameters are the cause.
        retry_after_s: when a retry may succeed, s; None: the same request fails again.
        close: whether the server closes the connection, because it does not read the rest of the request.
        headers: more response headers.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Iterable[InvalidParameter] = (),
        retry_after_s: float | None = None,
        close: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        detail = detail if len(detail) <= LONGEST_DETAIL else f"{detail[:LONGEST_DETAIL]}…"
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(max(1, ceil(retry_after_s)))
        if close:
            self.headers["Connection"] = "close"

    def details(self) -> ProblemDetails:
        """The body."""
        title = HTTPStatus(self.status).phrase
        return ProblemDetails(title=title, status=self.status, detail=self.detail, errors=self.errors)

    def response(self) -> AsciiJson:
        """The HTTP response."""
        return AsciiJson(self.details().model_dump(), self.status, self.headers, MEDIA_TYPE)


def invalid_parameters(*errors: InvalidParameter) -> Problem:
    """A 422 that names each invalid parameter."""
    return Problem(422, "; ".join(f"{one.parameter}: {one.message}" for one in errors), errors=errors)


def invalid(parameter: str, message: str) -> Problem:
    """A 422 for one invalid parameter."""
    return invalid_parameters(InvalidParameter(parameter=parameter, message=message))


def as_problem(error: Exception) -> Problem:
    """The problem that a problem, or an HTTP error of the framework (no such path, method not allowed), stands for.

    Raises:
        Exception: the error itself: any other error is a bug.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return Problem(error.status_code, str(error.detail), headers=error.headers)
    raise error


def install(
    app: FastAPI, translate: Callable[[Exception], Problem] = as_problem, errors: Iterable[type[Exception]] = ()
) -> None:
    """Answer errors of the app with problem details.

    Args:
        app: the application.
        translate: an error to its problem; raises errors that are bugs.
        errors: classes that ``translate`` knows, beside ``Problem`` and ``HTTPException``.
    """

    async def respond(_request: Request, error: Exception) -> AsciiJson:
        return translate(error).response()

    for kind in (Problem, HTTPException, *errors):
        app.add_exception_handler(kind, respond)
