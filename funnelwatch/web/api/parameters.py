"""Parameters that several endpoints share, and the format of the response: JSON or CSV."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from funnelwatch.producers.http.problem import Problem, invalid
from funnelwatch.query.parameters import (
    MOST_BY,
    MOST_VALUES,
    STEP,
    BadQueryError,
    UnknownDimensionError,
    parse_filters,
    parse_moment_ms,
)
from funnelwatch.query.rate_query import RateQuery
from funnelwatch.query.rates import MOST_SPANS
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.dimensions import DIMENSION_NAME
from funnelwatch.schemas.freshness import stale_after_ms
from funnelwatch.schemas.times import SPAN
from funnelwatch.sinks.timescale.freshness import FreshnessStore
from funnelwatch.sinks.timescale.rates import Basis, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from funnelwatch.schemas.freshness import Freshness
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.database import Database

T = TypeVar("T")
Name = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
"""A name in events: any text that the database can store."""

JSON, CSV = "application/json", "text/csv"
FORMS = (JSON, CSV)


MOMENT = (
    "a span back from now (`90s`, `15m`, `1h`, `7d`), `now`, ISO 8601 (UTC where it names no zone), or seconds or "
    "milliseconds since the epoch"
)
LONGEST_TIME = 64
SPAN_PATTERN = r"\d{1,9}(\.\d{1,3})?[smhdw]"
DATE_PATTERN = r"[1-9]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
TIME_PATTERN = r"[Tt ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d([.,]\d{1,9})?)?([Zz]|[ +-]([01]\d|2[0-3]):?[0-5]\d)?"
EPOCH_PATTERN = r"\d{9,14}(\.\d{1,6})?"
SPAN_SCHEMA: dict[str, Any] = {"pattern": f"^{SPAN_PATTERN}$"}
MOMENT_SCHEMA: dict[str, Any] = {
    "pattern": f"^(now|[ +-]?{SPAN_PATTERN}|{DATE_PATTERN}({TIME_PATTERN})?|{EPOCH_PATTERN})$"
}
"""For the OpenAPI description. The parser decides whether a text is a time, and gives the reason in plain words."""


SEVERAL = {"by", "where"}
"""Repeatable parameters."""
SINGLE = {"format", "funnel", "since", "until", "every", "closed", "basis"}
"""Parameters of rates, counts and times that are not repeatable."""


def moment_field(default: Any, description: str) -> Any:
    """A parameter that is a point in time."""
    return Field(default, max_length=LONGEST_TIME, description=description, json_schema_extra=MOMENT_SCHEMA)


def every_field() -> Any:
    """A parameter that is the length of spans of time."""
    return Field(
        None,
        max_length=LONGEST_TIME,
        description=f"Group by spans of time: 5m, 1h, 1d; a multiple of the window, at most {MOST_SPANS:,} of them. "
        "Whole weeks begin on Mondays, others at multiples of the span since 1970-01-01, UTC.",
        examples=["5m"],
        json_schema_extra=SPAN_SCHEMA,
    )


class FreshnessRow(BaseModel):
    """Whether figures are current; only "fresh" means that all is well."""

    state: Literal["fresh", "stale", "unknown"] = Field(
        description="stale: no worker is alive, or windows are not closed or not evaluated. unknown: cannot be checked."
    )
    reason: str = Field(description="One word for programs, such as no_worker, not_closing, behind, not_evaluated.")
    since: str | None = Field(description="Since when; null where that is not known.")
    message: str = Field(description="One sentence for people.")


class Result(BaseModel):
    """The fields of every result."""

    freshness: FreshnessRow


class GroupRow(BaseModel):
    """The group of a row: span of time, step, and dimensions, each in a field of its own."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str] = Field(init=False)

    start: str | None = Field(None, description="Start of the span; with every only.")
    step: str


class Parameters(BaseModel):
    """Parameters of every endpoint; unknown parameters are rejected."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["json", "csv"] | None = Field(None, description="Wins over the Accept header.")


By = Annotated[str, Field(max_length=MOST_BY * 64, pattern=f"^{DIMENSION_NAME.pattern}(,{DIMENSION_NAME.pattern})*$")]
"""Names of dimensions, separated by commas."""
Where = Annotated[str, Field(max_length=264, pattern=rf"^{DIMENSION_NAME.pattern}=[^\x00]*$")]
Values = Annotated[list[Name], BeforeValidator(lambda given: given if isinstance(given, list) else [given])]
"""A parameter that no field names; it may be repeated."""

ANY_DIMENSION: dict[str, Any] = {
    "parameters": [
        {
            "name": "dimension",
            "in": "query",
            "required": False,
            "style": "form",
            "explode": True,
            "description": "Any dimension of the funnel with the value to select: `os=iOS`; empty (`os=`): series "
            "without a value. Repeated, any of the values is selected.",
            "schema": {
                "type": "object",
                "propertyNames": {"pattern": f"^{DIMENSION_NAME.pattern}$"},
                "additionalProperties": {"type": "string", "maxLength": 200, "pattern": r"^[^\x00]*$"},
            },
            "example": {"os": "iOS"},
        }
    ]
}
"""For the OpenAPI description of paths with ``ScopeParameters``."""


class ScopeParameters(Parameters):
    """The funnel, and the range of time. A further parameter is a dimension with the values to select."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Values] = Field(init=False)

    funnel: Name = Field("sign_up", min_length=1, description="The funnel.", examples=["sign_up"])
    since: str = moment_field("1h", f"Start: {MOMENT}.")
    until: str = moment_field("now", "End, exclusive; as since.")
    by: list[By] = Field(
        [],
        max_length=MOST_BY,
        description=f"Group by these dimensions of the funnel, at most {MOST_BY}: `os,country`; repeatable.",
        examples=[["os"]],
    )
    where: list[Where] = Field(
        [],
        max_length=MOST_VALUES,
        description="Only series with this value of a dimension, such as `os=iOS`; as the parameter `os`, and for "
        "dimensions that are called like another parameter. Repeatable.",
        examples=[["os=iOS"]],
    )
    closed: bool = Field(False, description="Only windows that are complete.")

    def query(self, basis: Basis = "window", steps: Sequence[str] = (), every: str | None = None) -> RateQuery:
        """The query that the parameters name.

        Args:
            basis: the time that dates a success.
            steps: the steps to select; none: every step.
            every: length of each span of time, such as 5m.

        Raises:
            BadQueryError: a time, a span or a name is invalid, or there are too many dimensions or values.
        """
        filters = parse_filters(self.where)
        for name, values in ((STEP, steps), *self.__pydantic_extra__.items()):
            if values:
                filters[name] = [*filters.get(name, ()), *values]
        return RateQuery.parse(
            Scope(self.funnel, filters),
            wall_clock_ms(),
            since=with_plus(self.since),
            until=with_plus(self.until),
            by=self.by,
            basis=basis,
            every=every,
            closed=self.closed,
        )


class RangeParameters(ScopeParameters):
    """The events to count, and the spans of time to tell apart."""

    step: list[Name] = Field(
        [], max_length=MOST_VALUES, description="A step; repeatable; none: every step.", examples=[["VERIFY_SMS_CODE"]]
    )
    every: str | None = every_field()


def with_plus(text: str) -> str:
    """A time with its plus: a plus that a client does not encode arrives as a space."""
    return f"+{text[1:]}" if text.startswith(" ") and SPAN.fullmatch(text[1:]) else text


def optional_moment_ms(parameter: str, text: str | None, now: int) -> int | None:
    """A parameter that is a point in time, ms, or absent.

    Raises:
        BadQueryError: the text is no point in time.
    """
    return None if text is None else parse_moment_ms(parameter, with_plus(text), now)


def answered(
    request: Request,
    parameters: ScopeParameters,
    query: RateQuery,
    answer: Callable[[Database, Settings, RateQuery], T],
) -> T:
    """The result of the query that the parameters name.

    Raises:
        BadQueryError: the query is invalid; for a parameter that is no dimension of the funnel, the message lists
            parameters and dimensions.
        NoDataError, FunnelsFileError, psycopg.Error: as ``query_rates``.
    """
    settings = request.app.state.settings
    try:
        found: T = request.app.state.pool.run(lambda database: answer(database, settings, query))
    except UnknownDimensionError as error:
        if error.dimension not in parameters.__pydantic_extra__:
            raise
        there = ", ".join(type(parameters).model_fields)
        dimensions = ", ".join(error.known) or "none"
        message = f"neither a parameter ({there}) nor a dimension of {error.funnel} ({dimensions})"
        raise BadQueryError(error.dimension, message) from error
    return found


def once(request: Request) -> None:
    """Reject a parameter that occurs twice and is not repeatable.

    Raises:
        Problem: a parameter occurs twice (422).
    """
    _reject_repeated(name for name, _ in request.query_params.multi_items() if name not in SEVERAL)


def once_unless_filter(request: Request) -> None:
    """As ``once``, where dimensions and steps are repeatable.

    Raises:
        Problem: a parameter occurs twice (422).
    """
    _reject_repeated(name for name, _ in request.query_params.multi_items() if name in SINGLE)


def _reject_repeated(names: Iterable[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise invalid(name, "occurs more than once; send one request for each value, or group with by")


def two_forms(what: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of a response that is JSON or CSV."""
    return {200: {"description": f"The {what}.", "content": {CSV: {"schema": {"type": "string"}}}}}


def respond(
    request: Request, parameters: Parameters, content: dict[str, Any], as_csv: Callable[[], str], name: str
) -> Response:
    """The response in the format that the client prefers.

    Raises:
        Problem: the client accepts neither format (406).
    """
    form = parameters.format or accepted(request.headers.get("accept", "*/*"))
    fresh = content.get("freshness") or _freshness(request, getattr(parameters, "funnel", None)).as_object()
    headers = {"Vary": "Accept", "Funnelwatch-Freshness": str(fresh["state"])}
    if form == "csv":
        headers["Content-Disposition"] = f'inline; filename="{name}.csv"'
        return Response(as_csv(), media_type=f"{CSV}; charset=utf-8; header=present", headers=headers)
    return JSONResponse({**content, "freshness": fresh}, headers=headers)


def _freshness(request: Request, funnel: str | None) -> Freshness:
    settings = request.app.state.settings
    found: Freshness = request.app.state.pool.run(
        lambda database: FreshnessStore(database, settings.events_topic).of(funnel, stale_after_ms(settings))
    )
    return found


def accepted(header: str) -> Literal["json", "csv"]:
    """Which form an Accept header prefers (RFC 9110, 12.5.1): JSON where both are as good.

    Raises:
        Problem: it accepts neither (406).
    """
    weights = dict.fromkeys(FORMS, 0.0)
    exactness = dict.fromkeys(FORMS, -1)
    for part in header.split(",") if header.strip() else ["*/*"]:
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        for form in FORMS:
            patterns = ["*/*", f"{form.partition('/')[0]}/*", form]  # the more exact pattern wins
            if kind in patterns and patterns.index(kind) > exactness[form]:
                exactness[form], weights[form] = patterns.index(kind), _weight(parameters)
    if not any(weights.values()):
        raise Problem(406, "the formats are application/json and text/csv; the Accept header allows neither")
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
