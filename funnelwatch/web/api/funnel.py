"""``/funnel``: how far the sessions came that entered a funnel, step by step in order."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from funnelwatch.query.funnel import query_funnel
from funnelwatch.web.api.parameters import (
    ANY_DIMENSION,
    Result,
    ScopeParameters,
    answered,
    once_unless_filter,
    respond,
    two_forms,
)

router = APIRouter(tags=["funnels"], dependencies=[Depends(once_unless_filter)])


class EntryRow(BaseModel):
    """The group of a row: each dimension at the entry of its sessions, in a field of its own."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str] = Field(init=False)


class StepRow(EntryRow):
    """One step of the funnel, and for one group."""

    position: int = Field(description="The place of the step, from 1.")
    step: str
    reached: int = Field(description="Sessions that reached the step in order.")
    of_first: float | None = Field(description="Their share of those that reached the first step; null for none.")
    of_previous: float | None = Field(description="Their share of those that reached the step before it.")
    completed: int = Field(description="How many of them completed the step.")
    dropped: int | None = Field(description="How many did not reach the next step; of the last, did not complete it.")
    open: int = Field(
        description="How many of them entered so lately that the session window has not passed: they may go on."
    )


class ConversionRow(EntryRow):
    """The funnel from end to end, and for one group."""

    entered: int = Field(description="Sessions that reached the first step.")
    completed: int = Field(description="How many of them completed the last step.")
    rate: float | None = Field(description="completed / entered; null where nobody entered.")
    low: float | None = Field(description="Lower end of the rate's 95 % interval (Wilson); null where there is none.")
    high: float | None = Field(description="Its upper end.")
    open: int = Field(description="How many of them entered so lately that the session window has not passed.")


class FunnelResult(Result):
    """A funnel of sessions, with its query; `funnelwatch funnel NAME --json` prints the same."""

    funnel: str
    filters: dict[str, list[str]] = Field(description="Dimensions at entry with the selected values.")
    from_: str = Field(alias="from", description="Start of the range of entries, widened to whole windows.")
    to: str = Field(description="Its end, exclusive.")
    window_s: float = Field(description="Length of a window, s.")
    session_window_s: float = Field(description="A session counts for steps within this time of its first event, s.")
    complete_through: str | None = Field(description="Windows that start before this are complete; null: none is.")
    mature_through: str | None = Field(
        description="Sessions that entered in windows which end by this have had all of the session window."
    )
    open: int = Field(description="How many of the entries are younger than the session window.")
    conversions: list[ConversionRow] = Field(description="By entries, most first; one without `by`.")
    rows: list[StepRow] = Field(description="The steps in the funnel's order, one group after the other.")


@router.get(
    "/funnel",
    summary="The funnel of sessions",
    response_model=FunnelResult,
    responses=two_forms("steps"),
    openapi_extra=ANY_DIMENSION,
)
def funnel(request: Request, parameters: Annotated[ScopeParameters, Query()]) -> Response:
    """Of the sessions that entered a declared funnel in the range, how many reached and completed each step in order.

    Each session counts once, with the dimensions at its entry. The range of entries is widened to whole windows.
    """
    found = answered(request, parameters, parameters.query(), query_funnel)
    return respond(request, parameters, found.as_object(), found.as_csv, "funnel")
