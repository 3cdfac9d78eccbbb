"""``/alerts``: firing and resolved alerts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from funnelwatch.query.alerts import with_iso_times
from funnelwatch.query.results import as_csv
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS
from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.web.api.parameters import (
    MOMENT,
    Name,
    Parameters,
    Result,
    moment_field,
    once,
    optional_moment_ms,
    respond,
    two_forms,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

router = APIRouter(tags=["alerts"], dependencies=[Depends(once)])

MOST_ALERTS = 1_000


class AlertParameters(Parameters):
    """Which messages of alerts."""

    funnel: Name | None = Field(None, description="One funnel, and alerts about all of them; none: any.")
    step: Name | None = Field(None, description="One step; alerts that have reached it too.")
    os: Name | None = Field(None, description="Alerts about one operating system.")
    browser: Name | None = Field(None, description="Alerts about one browser.")
    app_version: Name | None = Field(None, description="Alerts about one version of the app.")
    rule: Name | None = Field(None, description="One rule.")
    severity: Name | None = Field(None, description="One severity.")
    state: Literal["firing", "resolved"] | None = Field(None, description="Only messages with this state.")
    current: bool = Field(False, description="Only the last message of each alert.")
    since: str | None = moment_field(None, f"Alerts whose last window ends at this time or later: {MOMENT}.")
    until: str | None = moment_field(None, "And before this; as since.")
    limit: int = Field(100, ge=1, le=MOST_ALERTS, description="The newest so many.")


class AlertSeries(BaseModel):
    """A series that an incident has reached."""

    step: str
    dimensions: dict[str, str]


class AlertRow(BaseModel):
    """One message of an alert, as it was published (schemas/alert.avsc describes each field)."""

    alert_id: str
    sequence: int
    state: str
    reason: str
    rule: str
    severity: str
    funnel: str
    step: str
    dimensions: dict[str, str]
    basis: str
    window_start: str
    window_end: str
    started_at: str
    rate: float
    expected_rate: float
    expected_low: float
    expected_high: float
    impressions: int
    successes: int
    score: float
    lost_conversions: float
    where_dimension: str
    where_value: str
    where_share: float
    labels: dict[str, str]
    annotations: dict[str, str]
    steps: list[str] = []
    series: list[AlertSeries] = []
    silenced_by: str = ""


class AlertsResult(Result):
    """Messages of alerts, newest first."""

    alerts: list[AlertRow]
    more: bool = Field(description="Whether there are older ones beyond the limit; ask with an earlier until.")


@router.get("/alerts", summary="Alerts", response_model=AlertsResult, responses=two_forms("messages"))
def alerts(request: Request, parameters: Annotated[AlertParameters, Query()]) -> Response:
    """Messages of alerts, newest first, as they were published; the fields are those of `schemas/alert.avsc`.

    In CSV `dimensions`, `labels`, `annotations`, `steps` and `series` are JSON.
    """
    now = wall_clock_ms()
    wanted = parameters.model_dump(include={"funnel", "step", "rule", "severity", "state"})
    dimensions = parameters.model_dump(include=set(DIMENSION_FIELDS), exclude_none=True)
    since = optional_moment_ms("since", parameters.since, now)
    until = optional_moment_ms("until", parameters.until, now)
    found: list[dict[str, Any]] = request.app.state.pool.run(
        lambda database: AlertStore(database).asked(
            parameters.limit + 1,
            current=parameters.current,
            since_ms=since,
            until_ms=until,
            dimensions=dimensions,
            **wanted,
        )
    )
    messages = [with_iso_times(alert) for alert in found[: parameters.limit]]
    content = {"alerts": messages, "more": len(found) > parameters.limit}
    return respond(
        request, parameters, content, lambda: as_csv(list(AlertRow.model_fields), map(_flat, messages)), "alerts"
    )


def _flat(alert: Mapping[str, Any]) -> dict[str, Any]:
    cells = {name: alert.get(name, "") for name in AlertRow.model_fields}
    return {name: json.dumps(cell) if isinstance(cell, dict | list) else cell for name, cell in cells.items()}
