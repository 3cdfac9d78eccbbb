"""``/funnels``: what there is to ask for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from funnelwatch.format import clock
from funnelwatch.query.results import as_csv
from funnelwatch.schemas.funnels import load_funnels
from funnelwatch.sinks.timescale.rates import Known, RateStore
from funnelwatch.web.api.parameters import Parameters, Result, once, respond, two_forms

if TYPE_CHECKING:
    from collections.abc import Sequence

router = APIRouter(tags=["funnels"], dependencies=[Depends(once)])


class FunnelRow(BaseModel):
    """One funnel: what is declared of it, and what it has in the day up to its newest window."""

    funnel: str
    declared: bool = Field(description="Whether its steps are declared; else they are those that events name.")
    steps: list[str] = Field(description="In the funnel's order; what is not declared comes last.")
    os: list[str]
    browsers: list[str]
    app_versions: list[str]
    newest_window: str | None = Field(description="Start of its newest window; null before the first event.")
    complete_through: str | None = Field(description="Windows that start before this are complete; null: none is.")


class FunnelsResult(Result):
    """Every funnel that is declared or has counts."""

    funnels: list[FunnelRow]


@router.get(
    "/funnels", summary="Funnels, steps and dimensions", response_model=FunnelsResult, responses=two_forms("funnels")
)
def funnels(request: Request, parameters: Annotated[Parameters, Query()]) -> Response:
    """The funnels, their steps in order, and the values of each dimension. In CSV lists are JSON."""
    declared = load_funnels(request.app.state.settings.funnels_path)
    steps = {name: funnel.steps for name, funnel in declared.items()}
    found: list[Known] = request.app.state.pool.run(lambda database: RateStore(database).known())
    there = {one.funnel: one for one in found}
    rows = [_row(name, steps.get(name), there.get(name)) for name in sorted({*declared, *there})]
    return respond(
        request,
        parameters,
        {"funnels": rows},
        lambda: as_csv(list(FunnelRow.model_fields), map(_flat, rows)),
        "funnels",
    )


def _row(name: str, declared: Sequence[str] | None, known: Known | None) -> dict[str, Any]:
    seen = known.steps if known else ()
    through = known.closed_through_ms if known else None
    return {
        "funnel": name,
        "declared": declared is not None,
        "steps": [*(declared or ()), *(step for step in seen if step not in (declared or ()))],
        "os": list(known.os) if known else [],
        "browsers": list(known.browsers) if known else [],
        "app_versions": list(known.app_versions) if known else [],
        "newest_window": clock(known.newest_ms) if known else None,
        "complete_through": None if through is None else clock(through),
    }


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {name: json.dumps(cell) if isinstance(cell, list) else cell for name, cell in row.items()}
