"""Parameters that several questions have, and the form of the answer: JSON or CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from funnelwatch.asking import moment_ms
from funnelwatch.web.problems import TITLES, Problem, ProblemError, wrong
from producers.times import parse_span_ms

if TYPE_CHECKING:
    from collections.abc import Callable

Name = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
"""A name as events have them: anything but what a database cannot hold."""

JSON, CSV = "application/json", "text/csv"
FORMS = (JSON, CSV)


class Asked(BaseModel):
    """Parameters of every question; one that it does not have is refused."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["json", "csv"] | None = Field(None, description="Wins over the Accept header.")


class AskedScope(Asked):
    """What to count."""

    funnel: Name = Field("sign_up", min_length=1, description="The funnel.", examples=["sign_up"])
    step: Name | None = Field(None, description="One step; none: every step.", examples=["VERIFY_SMS_CODE"])
    os: Name | None = Field(None, description="One operating system.", examples=["iOS"])
    browser: Name | None = Field(None, description="One browser.", examples=["Safari"])
    app_version: Name | None = Field(None, description="One version of the app.", examples=["2.4.1"])


MOMENT = "a span back from now (`90s`, `15m`, `1h`, `7d`), `now`, or ISO 8601 (UTC where it names no zone)"


def moment(parameter: str, text: str, now_ms: int) -> int:
    """A point in time, ms.

    Raises:
        ProblemError: it is none.
    """
    try:
        return moment_ms(text, now_ms)
    except ValueError as error:
        raise wrong(parameter, str(error)) from error


def span(parameter: str, text: str | None) -> int | None:
    """A span of time, ms.

    Raises:
        ProblemError: it is none.
    """
    try:
        return None if text is None else parse_span_ms(text)
    except ValueError as error:
        raise wrong(parameter, str(error)) from error


def once(request: Request) -> None:
    """Refuse a parameter that stands twice where one value can be meant.

    Raises:
        ProblemError: one does.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name != "by" and names.count(name) > 1:
            raise wrong(name, "stands more than once; ask once for each value, or tell values apart with by")


def answer(request: Request, asked: Asked, content: Any, as_csv: Callable[[], str], name: str) -> Response:
    """The answer in the form that was asked for.

    Raises:
        ProblemError: neither form is acceptable to the client.
    """
    if (asked.format or accepted(request.headers.get("accept", "*/*"))) == "csv":
        headers = {"Content-Disposition": f'inline; filename="{name}.csv"', "Vary": "Accept"}
        return Response(as_csv(), media_type=f"{CSV}; charset=utf-8; header=present", headers=headers)
    return JSONResponse(content, headers={"Vary": "Accept"})


def accepted(header: str) -> Literal["json", "csv"]:
    """Which form an Accept header prefers (RFC 9110, 12.5.1): JSON where both are as good.

    Raises:
        ProblemError: neither.
    """
    weights = dict.fromkeys(FORMS, 0.0)
    exactness = dict.fromkeys(FORMS, -1)
    for part in header.split(",") if header.strip() else ["*/*"]:
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        for form in FORMS:
            patterns = ["*/*", f"{form.partition('/')[0]}/*", form]  # the more exact one says what holds
            if kind in patterns and patterns.index(kind) > exactness[form]:
                exactness[form], weights[form] = patterns.index(kind), _weight(parameters)
    if not any(weights.values()):
        detail = "this is told as application/json and as text/csv; the Accept header allows neither"
        raise ProblemError(Problem(title=TITLES[406], status=406, detail=detail))
    return "csv" if weights[CSV] > weights[JSON] else "json"


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
