"""``/funnels``: funnels, their steps and their dimensions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from funnelwatch.format import clock
from funnelwatch.query.results import as_csv
from funnelwatch.schemas.funnels import dimensions_of, load_funnels
from funnelwatch.sinks.timescale.rates import Known, RateStore
from funnelwatch.web.api.parameters import Parameters, Result, once, respond, two_forms

if TYPE_CHECKING:
    from funnelwatch.schemas.funnels import Funnels

router = APIRouter(tags=["funnels"], dependencies=[Depends(once)])


class FunnelRow(BaseModel):
    """One funnel: its declaration, and its series in the day up to its newest window."""

    funnel: str
    declared: bool = Field(description="Whether its steps are declared; else they are those that events name.")
    steps: list[str] = Field(description="In the funnel's order; steps that are not declared come last.")
    dimensions: dict[str, list[str]] = Field(
        description="Each dimension that counts can be grouped and selected by, to its values in that day; empty "
        "where a series has none. In the declared order; dimensions of older declarations come last."
    )
    newest_window: str | None = Field(description="Start of its newest window; null before the first event.")
    complete_through: str | None = Field(description="Windows that start before this are complete; null: none is.")


class FunnelsResult(Result):
    """Every funnel that is declared or has counts."""

    funnels: list[FunnelRow]


@router.get(
    "/funnels", summary="Funnels, steps and dimensions", response_model=FunnelsResult, responses=two_forms("funnels")
)
def funnels(request: Request, parameters: Annotated[Parameters, Query()]) -> Response:
    """The funnels, their steps in order, and the values of each dimension. In CSV lists and maps are JSON."""
    declared = load_funnels(request.app.state.settings.funnels_path)
    found: list[Known] = request.app.state.pool.run(lambda database: RateStore(database).known())
    there = {one.funnel: one for one in found}
    rows = [_row(name, declared, there.get(name)) for name in sorted({*declared, *there})]
    return respond(
        request,
        parameters,
        {"funnels": rows},
        lambda: as_csv(list(FunnelRow.model_fields), map(_flat, rows)),
        "funnels",
    )


def _row(name: str, declared: Funnels, known: Known | None) -> dict[str, Any]:
    steps = declared[name].steps if name in declared else ()
    seen = known.steps if known else ()
    values = known.dimensions if known else {}
    through = known.closed_through_ms if known else None
    return {
        "funnel": name,
        "declared": name in declared,
        "steps": [*steps, *(step for step in seen if step not in steps)],
        # A declared dimension that no series has yet.
        "dimensions": {
            dimension: list(values.get(dimension, ("",) if known else ()))
            for dimension in dimensions_of(name, declared, values)
        },
        "newest_window": clock(known.newest_ms) if known else None,
        "complete_through": None if through is None else clock(through),
    }


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {name: json.dumps(cell) if isinstance(cell, list | dict) else cell for name, cell in row.items()}
