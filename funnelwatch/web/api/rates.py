"""``/rates``: how many of those who were shown a step made it, where and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from funnelwatch.answers import Question
from funnelwatch.asking import MOST_SPANS, ask
from funnelwatch.web.api.asked import CSV, MOMENT, AskedScope, answer, moment, once, span
from schemas.events import now_ms
from sinks.timescale.rates import Basis, Dimension, Scope

if TYPE_CHECKING:
    from funnelwatch.web.pool import Pool

router = APIRouter(tags=["rates"])


class AskedRates(AskedScope):
    """What to ask for."""

    since: str = Field("1h", max_length=64, description=f"Start: {MOMENT}.", examples=["1h"])
    until: str = Field("now", max_length=64, description="End, exclusive; as since.", examples=["now"])
    by: list[Dimension] = Field([], max_length=3, description="Tell these apart; may stand several times.")
    every: str | None = Field(
        None,
        max_length=32,
        description=f"Tell spans of time apart: 5m, 1h, 1d; a multiple of the window, at most {MOST_SPANS:,} of them.",
        examples=["5m"],
    )
    basis: Basis = Field(
        "window", description="What dates a success: its own time, or (cohort) that of the impression it answers."
    )
    closed: bool = Field(False, description="Only windows that are complete.")


class RateRow(BaseModel):
    """Counts of one step, and of the values and the span of time that were told apart."""

    start: str | None = Field(None, description="Start of the span; with every only.")
    step: str
    os: str | None = Field(None, description="With by=os only.")
    browser: str | None = Field(None, description="With by=browser only.")
    app_version: str | None = Field(None, description="With by=app_version only.")
    impressions: int
    successes: int
    failures: int
    rate: float | None = Field(description="successes / impressions; null where nobody was shown the step.")
    low: float | None = Field(description="Lower end of the rate's 95 % interval (Wilson); null where there is none.")
    high: float | None = Field(description="Its upper end.")


class RatesAnswer(BaseModel):
    """Rates, and what they were asked for; `funnelwatch rate --json` prints the same."""

    funnel: str
    filters: dict[str, str] = Field(description="What was chosen beside the funnel.")
    basis: Basis
    from_: str = Field(alias="from", description="Start of the range, widened to whole windows or spans.")
    to: str = Field(description="Its end, exclusive.")
    window_s: float = Field(description="Length of a window, s.")
    complete_through: str | None = Field(description="Windows that start before this are complete; null: none is.")
    includes_open_windows: bool = Field(description="Whether counts of the range still grow.")
    rows: list[RateRow] = Field(description="By step in the funnel's order, then by dimensions, then by time.")


@router.get(
    "/rates",
    summary="Conversion rates and their counts",
    response_model=RatesAnswer,
    responses={200: {"content": {CSV: {"schema": {"type": "string"}}}, "description": "The rates."}},
    dependencies=[Depends(once)],
)
def rates(request: Request, asked: Annotated[AskedRates, Query()]) -> Response:
    """Successes / impressions of each step, with the 95 % interval.

    The range is widened to whole windows, or to whole spans of `every`. Steps of a declared funnel without counts are
    there with zeros. An answer has at most 100,000 rows and 10,000 spans.
    """
    now = now_ms()
    question = Question(
        Scope(asked.funnel, asked.step, asked.os, asked.browser, asked.app_version),
        moment("since", asked.since, now),
        moment("until", asked.until, now),
        tuple(dict.fromkeys(asked.by)),
        asked.basis,
        span("every", asked.every),
        asked.closed,
    )
    pool: Pool = request.app.state.pool
    found = pool.run(lambda database: ask(database, request.app.state.settings, question))
    return answer(request, asked, found.as_object(), found.as_csv, "rates")
