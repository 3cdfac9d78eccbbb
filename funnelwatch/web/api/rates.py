"""``/rates`` and ``/counts``: how many of those who were shown a step made it, where and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from funnelwatch.query.rates import query_rates
from funnelwatch.query.results import COUNTS, as_csv, row_fields
from funnelwatch.sinks.timescale.rates import Basis  # noqa: TC001 - pydantic reads it
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

if TYPE_CHECKING:
    from funnelwatch.query.results import RateResult

router = APIRouter(tags=["rates"], dependencies=[Depends(once_unless_filter)])


class RateParameters(RangeParameters):
    """Parameters of a rate query."""

    basis: Basis = Field(
        "window",
        description="The time that dates a success: its own, or (cohort) that of the impression it answers; session: "
        "sessions are counted, each once, at their first impression of the step.",
    )


class CountRow(GroupRow):
    """Counts of one step, and for one group and span of time."""

    impressions: int | None = Field(None, description="How often the step was shown; not with basis=session.")
    successes: int | None = Field(None, description="How often its input was accepted; not with basis=session.")
    failures: int | None = Field(None, description="How often its input was rejected; not with basis=session.")
    sessions: int | None = Field(None, description="How many sessions saw the step; with basis=session only.")
    session_successes: int | None = Field(None, description="How many of these sessions completed the step.")
    open: int | None = Field(
        None, description="How many of these sessions are younger than the session window: they may still complete it."
    )


class RateRow(CountRow):
    """Counts with their rate."""

    rate: float | None = Field(description="successes / impressions, or session_successes / sessions; null for none.")
    low: float | None = Field(description="Lower end of the rate's 95 % interval (Wilson); null where there is none.")
    high: float | None = Field(description="Its upper end.")


class Counted(Result):
    """The query of a result."""

    funnel: str
    filters: dict[str, list[str]] = Field(description="Dimensions, or step, with the selected values.")
    basis: Basis
    from_: str = Field(alias="from", description="Start of the range, widened to whole windows or spans.")
    to: str = Field(description="Its end, exclusive.")
    window_s: float = Field(description="Length of a window, s.")
    complete_through: str | None = Field(description="Windows that start before this are complete; null: none is.")
    includes_open_windows: bool = Field(description="Whether counts of the range still grow.")


class RatesResult(Counted):
    """Rates, with their query; `funnelwatch rate --json` prints the same."""

    rows: list[RateRow] = Field(description="By step in the funnel's order, then by the values of by, then by time.")


class CountsResult(Counted):
    """Counts, with their query."""

    rows: list[CountRow] = Field(description="By step in the funnel's order, then by the values of by, then by time.")


@router.get(
    "/rates",
    summary="Conversion rates",
    response_model=RatesResult,
    responses=two_forms("rates"),
    openapi_extra=ANY_DIMENSION,
)
def rates(request: Request, parameters: Annotated[RateParameters, Query()]) -> Response:
    """Successes / impressions of each step, or of its sessions, with the 95 % interval and the counts of both.

    The range is widened to whole windows, or to whole spans of `every`. Steps of a declared funnel without counts are
    there with zeros.
    """
    found = _found(request, parameters)
    return respond(request, parameters, found.as_object(), found.as_csv, "rates")


@router.get(
    "/counts",
    summary="Counts",
    response_model=CountsResult,
    responses=two_forms("counts"),
    openapi_extra=ANY_DIMENSION,
)
def counts(request: Request, parameters: Annotated[RateParameters, Query()]) -> Response:
    """Impressions, successes and failures of each step, or its sessions; the range as for rates."""
    found = _found(request, parameters)
    columns = row_fields(found.query, COUNTS[found.query.basis])
    rows = [{name: row[name] for name in columns} for row in found.rows()]
    return respond(request, parameters, {**found.as_object(), "rows": rows}, lambda: as_csv(columns, rows), "counts")


def _found(request: Request, parameters: RateParameters) -> RateResult:
    return answered(
        request, parameters, parameters.query(parameters.basis, parameters.step, parameters.every), query_rates
    )
