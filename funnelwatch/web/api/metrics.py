"""``/metrics``: the counters and timers beside the events of funnels."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from funnelwatch.format import clock
from funnelwatch.query.metrics import MetricQuery, MetricResult, query_metrics
from funnelwatch.query.results import as_csv
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.metrics import DIMENSION, MAX_DIMENSIONS, MAX_LENGTH, NAME
from funnelwatch.sinks.timescale.metric_counts import KnownMetric, MetricStore
from funnelwatch.web.api.parameters import (
    MOMENT,
    Parameters,
    Result,
    every_field,
    moment_field,
    once,
    respond,
    two_forms,
    with_plus,
)

router = APIRouter(tags=["metrics"], dependencies=[Depends(once)])

Kind = Literal["COUNTER", "TIMER"]
MetricName = Annotated[
    str,
    Path(max_length=MAX_LENGTH, pattern=f"^{NAME.pattern}$", description="Its name.", examples=["sms_sent"]),
]
By = Annotated[
    str,
    Field(max_length=MAX_DIMENSIONS * (MAX_LENGTH + 1), pattern=f"^{DIMENSION.pattern}(,{DIMENSION.pattern})*$"),
]
"""Names of dimensions, separated by commas."""
Where = Annotated[str, Field(max_length=2 * MAX_LENGTH + 1, pattern=rf"^{DIMENSION.pattern}=[^\x00]*$")]


class MetricParameters(Parameters):
    """The range of time, and the groups."""

    since: str = moment_field("1h", f"Start: {MOMENT}.")
    until: str = moment_field("now", "End, exclusive; as since.")
    by: list[By] = Field(
        [], max_length=MAX_DIMENSIONS, description="Dimensions to group by: `os,provider`; repeatable."
    )
    where: list[Where] = Field(
        [],
        max_length=MAX_DIMENSIONS,
        description="Only series with this value, such as `os=iOS`; empty (`os=`): without the dimension. Repeatable.",
    )
    every: str | None = every_field()


class MetricRow(BaseModel):
    """A counter's sum or a timer's statistics, for one group and span of time."""

    start: str | None = Field(None, description="Start of the span; with every only.")
    name: str
    kind: Kind
    dimensions: dict[str, str] = Field(
        description="Values of the dimensions in `by`; empty where a series has none. In CSV `dimensions.os`."
    )
    samples: int = Field(description="How many.")
    total: int = Field(description="The sum of a counter's increments, or of a timer's milliseconds.")
    per_second: float = Field(
        description="A counter's increments, or a timer's samples, a second of what has passed of the span."
    )
    mean_ms: float | None = Field(None, description="Mean of a timer; null without samples, as the quantiles are.")
    p50_ms: float | None = Field(None, description="Half of a timer's samples took no longer; less than 12.5 % off.")
    p90_ms: float | None = Field(None, description="Nine of ten took no longer.")
    p99_ms: float | None = Field(None, description="99 of 100 took no longer.")


class OneMetric(Result):
    """A counter's sums or a timer's statistics; `funnelwatch metrics NAME --json` prints the same."""

    name: str
    filters: dict[str, str] = Field(description="The values in `where`.")
    from_: str = Field(alias="from", description="Start of the range, widened to whole windows or spans.")
    to: str = Field(description="Its end, exclusive.")
    window_s: float = Field(description="Length of a window, s.")
    rows: list[MetricRow] = Field(description="By dimensions, then by time; nothing where there are no samples.")


class KnownRow(BaseModel):
    """A counter or timer that there is."""

    name: str
    kind: Kind
    series: int = Field(description="How many combinations of values of its dimensions it has.")
    first_seen: str = Field(description="When a worker saw the first of it.")
    dimensions: dict[str, list[str]] = Field(description="Values of each dimension that occurred.")


class AllMetrics(Result):
    """Every counter and timer that there is."""

    metrics: list[KnownRow]


@router.get("/metrics", summary="Counters and timers", response_model=AllMetrics, responses=two_forms("names"))
def metrics(request: Request, parameters: Annotated[Parameters, Query()]) -> Response:
    """Every counter and timer that apps have sent, with its kind and its dimensions.

    In CSV `dimensions` is JSON.
    """
    found: list[KnownMetric] = request.app.state.pool.run(lambda database: MetricStore(database).known())
    rows = [_known(one) for one in found]
    flat = ({**row, "dimensions": json.dumps(row["dimensions"])} for row in rows)
    return respond(request, parameters, {"metrics": rows}, lambda: as_csv(list(KnownRow.model_fields), flat), "metrics")


@router.get(
    "/metrics/{name}",
    summary="One counter or timer",
    response_model=OneMetric,
    responses=two_forms("numbers"),
)
def metric(request: Request, name: MetricName, parameters: Annotated[MetricParameters, Query()]) -> Response:
    """Return a counter's sums or a timer's statistics, by any of its dimensions and by spans of time.

    The range is widened to whole windows, or to whole spans of `every`; a span without samples is there with zeros.
    Counters and timers have no rollups: they are kept as long as windows.
    """
    query = _query(name, parameters)
    found: MetricResult = request.app.state.pool.run(
        lambda database: query_metrics(database, request.app.state.settings, query)
    )
    return respond(request, parameters, found.as_object(), found.as_csv, name)


def _query(name: str, parameters: MetricParameters) -> MetricQuery:
    return MetricQuery.parse(
        name,
        wall_clock_ms(),
        since=with_plus(parameters.since),
        until=with_plus(parameters.until),
        by=parameters.by,
        where=parameters.where,
        every=parameters.every,
    )


def _known(one: KnownMetric) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "series": one.series,
        "first_seen": clock(one.first_seen_ms),
        "dimensions": one.dimensions,
    }
