"""``/timers``: how long people took from a step's impression to its success."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from funnelwatch.format import clock
from funnelwatch.query.rates import query_timers
from funnelwatch.query.results import QUANTILES, as_csv, group_fields, row_fields
from funnelwatch.web.api.parameters import (
    ANY_DIMENSION,
    GroupRow,
    RangeParameters,
    Result,
    answered,
    once_unless_filter,
    respond,
    two_forms,
)

router = APIRouter(tags=["timers"], dependencies=[Depends(once_unless_filter)])


class TimerRow(GroupRow):
    """The time to convert of one step, and for one group and span of time."""

    conversions: int = Field(description="Successes whose time is known (`duration_ms` of the event).")
    p50_ms: float = Field(description="Half of them took no longer, ms; less than 12.5 % off.")
    p90_ms: float = Field(description="Nine of ten took no longer.")
    p99_ms: float = Field(description="99 of 100 took no longer.")


class TimersResult(Result):
    """Times to convert, with their query."""

    funnel: str
    from_: str = Field(alias="from", description="Start of the range, widened to whole windows or spans.")
    to: str = Field(description="Its end, exclusive.")
    complete_through: str | None = Field(description="Windows that start before this are complete; null: none is.")
    rows: list[TimerRow] = Field(description="By step in the funnel's order, then by the values of by, then by time.")


@router.get(
    "/timers",
    summary="Time to convert",
    response_model=TimersResult,
    responses=two_forms("times"),
    openapi_extra=ANY_DIMENSION,
)
def timers(request: Request, parameters: Annotated[RangeParameters, Query()]) -> Response:
    """Quantiles of the time from a step's impression to its success, dated by the success.

    They come from histograms that add up exactly, so any range and any dimensions may be taken together. Where no
    time is known there is no row.
    """
    query = parameters.query("window", parameters.step, parameters.every)
    meant, found = answered(request, parameters, query, query_timers)
    figures = ("conversions", *QUANTILES)
    rows = [group_fields(timer) | {name: getattr(timer, name) for name in figures} for timer in found]
    content = {
        "funnel": query.scope.funnel,
        "from": clock(meant.start),
        "to": clock(meant.end),
        "complete_through": None if meant.closed_through is None else clock(meant.closed_through),
        "rows": rows,
    }
    return respond(request, parameters, content, lambda: as_csv(row_fields(query, figures), rows), "timers")
