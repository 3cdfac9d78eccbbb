"""``/timers``: how long people took from a step's impression to its success."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from funnelwatch.format import clock
from funnelwatch.query.rates import query_timers
from funnelwatch.query.results import as_csv
from funnelwatch.web.api.parameters import RangeParameters, Result, once, respond, two_forms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.sinks.timescale.rates import Dimension
    from funnelwatch.sinks.timescale.timers import Timer

router = APIRouter(tags=["timers"], dependencies=[Depends(once)])

QUANTILES = ("p50_ms", "p90_ms", "p99_ms")


class TimerRow(BaseModel):
    """The time to convert of one step, and for one group and span of time."""

    start: str | None = Field(None, description="Start of the span; with every only.")
    step: str
    os: str | None = Field(None, description="With by=os only.")
    browser: str | None = Field(None, description="With by=browser only.")
    app_version: str | None = Field(None, description="With by=app_version only.")
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
    rows: list[TimerRow] = Field(description="By step in the funnel's order, then by dimensions, then by time.")


@router.get("/timers", summary="Time to convert", response_model=TimersResult, responses=two_forms("times"))
def timers(request: Request, parameters: Annotated[RangeParameters, Query()]) -> Response:
    """Quantiles of the time from a step's impression to its success, dated by the success.

    They come from histograms that add up exactly, so any range and any dimensions may be taken together. Where no
    time is known there is no row.
    """
    query = parameters.query()
    meant, found = request.app.state.pool.run(
        lambda database: query_timers(database, request.app.state.settings, query)
    )
    rows = [_row(timer, query.by) for timer in found]
    content = {
        "funnel": query.scope.funnel,
        "from": clock(meant.start),
        "to": clock(meant.end),
        "complete_through": None if meant.closed_through is None else clock(meant.closed_through),
        "rows": rows,
    }
    columns = [*(["start"] if query.every_ms else []), "step", *query.by, "conversions", *QUANTILES]
    return respond(request, parameters, content, lambda: as_csv(columns, rows), "timers")


def _row(timer: Timer, by: Sequence[Dimension]) -> dict[str, Any]:
    return {
        **({} if timer.start_ms is None else {"start": clock(timer.start_ms)}),
        "step": timer.step,
        **{name: getattr(timer, name) for name in (*by, "conversions", *QUANTILES)},
    }
