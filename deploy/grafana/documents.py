"""The dashboards as documents: JSON by file name, for the dimensions of some funnels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from funnelwatch.deploy.grafana.builders import alerts, funnel, step
from funnelwatch.deploy.grafana.pipeline import pipeline
from funnelwatch.deploy.grafana.statements import Statements
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS

if TYPE_CHECKING:
    from funnelwatch.schemas.funnels import Funnels

BUILDERS: Final = {"funnel": funnel, "step": step, "alerts": alerts, "pipeline": pipeline}


def all_dimensions(funnels: Funnels) -> tuple[str, ...]:
    """The dimensions of some funnels, each once, in the order of their declaration."""
    return tuple(dict.fromkeys(name for funnel in funnels.values() for name in funnel.dimensions))


def documents(dimensions: tuple[str, ...] = DIMENSION_FIELDS) -> dict[str, str]:
    """Name of the file to the JSON of its dashboard."""
    sql = Statements(dimensions)
    return {
        f"{name}.json": json.dumps(build(sql).build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, build in BUILDERS.items()
    }
