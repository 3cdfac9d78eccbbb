"""``/rates`` and ``/counts``: how many of those who were shown a step made it, where and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from funnelwatch.query.rates import query_rates
from funnelwatch.query.results import as_csv
from funnelwatch.sinks.timescale.rates import Basis  # noqa: TC001 - pydantic reads it
from funnelwatch.web.api.parameters import RangeParameters, Result, once, respond, two_forms

if TYPE_CHECKING:
    from funnelwatch.query.results import RateResult

router = APIRouter(tags=["rates"], dependencies=[Depends(once)])


class RateParameters(RangeParameters):
    """Parameters of a rate query."""

    basis: Basis = Field(
        "window", description="The time that dates a success: its own, or (cohort) that of the impression it answers."
    )


class CountRow(BaseModel):
    """Counts of one step, and for one group and span of time."""

    start: str | None = Field(None, description="Start of the span; with every only.")
    step: str
    os: str | None = Field(None, description="With by=os only.")
    browser: str | None = Field(None, description="With by=browser only.")
    app_version: str | None = Field(None, description="With by=app_version only.")
    impressions: int = Field(description="How often the step was shown.")
    successes: int = Field(description="How often its input was accepted.")
    failures: int = Field(description="How often its input was rejected.")


class RateRow(CountRow):
    """Counts with their rate."""

    rate: float | None = Field(description="successes / impressions; null where nobody was shown the step.")
    low: float | None = Field(description="Lower end of the rate's 95 % interval (Wilson); null where there is none.")
    high: float | None = Field(description="Its upper end.")


class Counted(Result):
    """The query of a result."""

    funnel: str
    filters: dict[str, str] = Field(description="The filters beside the funnel.")
    basis: Basis
    from_: str = Field(alias="from", description="Start of the range, widened to whole windows or spans.")
    to: str = Field(description="Its end, exclusive.")
    window_s: float = Field(description="Length of a window, s.")
    complete_through: str | None = Field(description="Windows that start before this are complete; null: none is.")
    includes_open_windows: bool = Field(description="Whether counts of the range still grow.")


class RatesResult(Counted):
    """Rates, with their query; `funnelwatch rate --json` prints the same."""

    rows: list[RateRow] = Field(description="By step in the funnel's order, then by dimensions, then by time.")


class CountsResult(Counted):
    """Counts, with their query."""

    rows: list[CountRow] = Field(description="By step in the funnel's order, then by dimensions, then by time.")


@router.get("/rates", summary="Conversion rates", response_model=RatesResult, responses=two_forms("rates"))
def rates(request: Request, parameters: Annotated[RateParameters, Query()]) -> Response:
    """Successes / impressions of each step, with the 95 % interval, and the counts that they are made of.

    The range is widened to whole windows, or to whole spans of `every`. Steps of a declared funnel without counts are
    there with zeros.
    """
    found = _found(request, parameters)
    return respond(request, parameters, found.as_object(), found.as_csv, "rates")


@router.get("/counts", summary="Counts", response_model=CountsResult, responses=two_forms("counts"))
def counts(request: Request, parameters: Annotated[RateParameters, Query()]) -> Response:
    """Impressions, successes and failures of each step; the range as for rates."""
    found = _found(request, parameters)
    columns = [name for name in found.columns() if name not in {"rate", "low", "high"}]
    rows = [{name: row[name] for name in columns} for row in found.rows()]
    return respond(request, parameters, {**found.as_object(), "rows": rows}, lambda: as_csv(columns, rows), "counts")


def _found(request: Request, parameters: RateParameters) -> RateResult:
    query = parameters.query(parameters.basis)
    found: RateResult = request.app.state.pool.run(
        lambda database: query_rates(database, request.app.state.settings, query)
    )
    return found
