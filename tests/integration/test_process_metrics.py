"""Metrics of each kind of process: its own, and none of another kind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from tests.worker import ROOT

SHOWN = """
import importlib, json, sys
from prometheus_client import REGISTRY
for module in sys.argv[2:]:
    importlib.import_module(module)
module, _, maker = sys.argv[1].partition(":")
module = importlib.import_module(module)
own = getattr(module, maker)().registry if maker else module.REGISTRY
print(json.dumps([[family.name for family in one.collect()] for one in (own, REGISTRY)]))
"""


@pytest.mark.parametrize(
    ("own", "modules", "has", "foreign"),
    [
        (
            "funnelwatch.sinks.alerts.metrics",
            ["funnelwatch.cli.notify"],
            "notifications_waiting",
            "funnelwatch_lag|_flush|_wat",
        ),
        (
            "funnelwatch.producers.collector.metrics:CollectorMetrics",
            ["funnelwatch.producers.collector.app"],
            "collector_in_flight",
            "funnelwatch_[^c]",
        ),
        (
            "funnelwatch.stream.worker.metrics",
            ["funnelwatch.stream.worker.ages", "funnelwatch.sinks.alerts.metrics"],
            "flush_seconds",
            "funnelwatch_notif",
        ),
    ],
)
def test_each_kind_of_process_shows_its_own_metrics_only(own: str, modules: list[str], has: str, foreign: str) -> None:
    """The notifier shows no gauge of a worker as zero; CPU, memory and files of the process are there."""
    command = [sys.executable, "-c", SHOWN, own, *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ)
    names, shared = json.loads(done.stdout)
    process = {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds"}
    assert {f"funnelwatch_{has}", *process} <= {*names}
    assert not [name for name in shared if name.startswith("funnelwatch")]
    assert not [name for name in names if re.match(foreign, name)]
