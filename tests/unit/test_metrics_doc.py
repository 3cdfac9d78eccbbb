"""The page on Prometheus names every metric that there is."""

from __future__ import annotations

import re
from pathlib import Path

from funnelwatch.sinks.exporter.families import freshness_families
from funnelwatch.stream.worker.ages import ages
from funnelwatch.stream.worker.metrics import REGISTRY

PAGE = (Path(__file__).parents[2] / "docs" / "prometheus.md").read_text()


def named() -> set[str]:
    """The metrics of the page's tables; a name that begins with … ends as a metric does."""
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([\w…]+)`", row)}


def test_every_metric_of_a_worker_and_of_freshness_is_documented() -> None:
    """By its whole name, or by its end after an ellipsis."""
    families = [*REGISTRY.collect(), *freshness_families([], [], 0)]
    names = {family.name for family in families if family.name.startswith("funnelwatch_")}
    assert {family.name for family in ages.describe()} <= names
    documented = {name.removesuffix("_total") for name in named()}
    ends = tuple(name.removeprefix("…") for name in documented if name.startswith("…"))
    missing = [name for name in sorted(names) if name not in documented and not name.endswith(ends)]
    assert missing == []
