"""What a backtest costs: ``make bench-backtest``, or ``make bench-backtest ARGS="90"`` for a quarter of a year.

The counts of a year in windows of a minute are drawn from the scenario of the detection report, with incidents put in,
written to a file, and given to ``funnelwatch rules backtest`` with the shipped rules, as a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.command import PROGRAM
from tests.report.scenario import DAY_MS, MONDAY, Scenario, draw
from tests.report.scenario import Incident as Planted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.report.scenario import Drawn

STEPS = ("INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE", "INPUT_NAME", "INPUT_PASSWORD")
SYSTEMS = ("iOS", "Android", "Windows", "macOS", "Linux", "Other")
WARMUP = 21
LOSSES = (0.1, 0.2, 0.3, 0.6)
SOME = 1440
BEGIN = datetime.fromtimestamp(MONDAY / 1000, UTC)


@dataclass(frozen=True, slots=True)
class Cost:
    """What was measured, and what the backtest said."""

    clock_s: float
    cpu_s: float
    memory_mb: float
    false_alarms: int
    per_series_30d: float
    detected: int
    incidents: int


def measure(folder: Path, days: int, incidents: int = 40, seed: int = 1) -> Cost:
    """Backtest so many days, the first 21 of them as history, with files in a folder.

    Raises:
        subprocess.CalledProcessError: the backtest failed.
    """
    scenario = Scenario(history_ms=WARMUP * DAY_MS, evaluated_ms=(days - WARMUP) * DAY_MS)
    rng = np.random.default_rng([seed, 2])
    planted = []
    for place in rng.choice((days - WARMUP) * len(STEPS) * len(SYSTEMS), incidents, replace=False).tolist():
        day, one = divmod(place, len(STEPS) * len(SYSTEMS))
        begin = scenario.history + day * 1440 + int(rng.integers(0, 1300))
        planted.append(Planted(one, begin, int(rng.integers(30, 90)), float(rng.choice(LOSSES))))
    write(folder, draw(scenario, len(STEPS) * len(SYSTEMS), seed, planted), planted)
    command = [
        *PROGRAM, "rules", "backtest", "--json",
        "--counts", str(folder / "counts.csv"), "--incidents", str(folder / "incidents.csv"),
    ]  # fmt: skip
    began = time.monotonic()
    with (folder / "said.json").open("wb") as said:
        child = subprocess.Popen(command, stdout=said)
        _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    clock = time.monotonic() - began
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    found = json.loads((folder / "said.json").read_text())
    return Cost(
        clock, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3, found["false_alarms"],
        found["false_alarms_per_series_30d"], sum(one["detected"] for one in found["incidents"]), len(planted),
    )  # fmt: skip


def write(folder: Path, drawn: Drawn, planted: Sequence[Planted]) -> None:
    """The counts and the incidents, as the two files that a backtest takes."""
    names = [f"sign_up,{step},{system}" for step in STEPS for system in SYSTEMS]

    def clock(row: int) -> str:
        return f"{BEGIN + timedelta(minutes=row):%Y-%m-%dT%H:%M:%SZ}"

    with (folder / "counts.csv").open("w") as file:
        file.write("window_start,funnel,step,os,impressions,successes\n")
        for first in range(0, len(drawn.impressions), SOME):
            shown, made = (values[first : first + SOME].tolist() for values in (drawn.impressions, drawn.successes))
            for row, (n, x) in enumerate(zip(shown, made, strict=True), first):
                start = clock(row)
                file.writelines(f"{start},{one},{a},{b}\n" for one, a, b in zip(names, n, x, strict=True))
    with (folder / "incidents.csv").open("w") as file:
        file.write("start,end,funnel,step,os\n")
        file.writelines(
            f"{clock(one.begin)},{clock(one.begin + one.length)},{names[one.series]}\n" for one in planted
        )  # fmt: skip


def main() -> None:
    """Print what a backtest of so many days took and found."""
    days = int(sys.argv[1]) if len(sys.argv) > 1 else 365
    with tempfile.TemporaryDirectory() as folder:
        print(f"drawing and writing {days} days of {len(STEPS) * len(SYSTEMS)} series …", file=sys.stderr, flush=True)
        cost = measure(Path(folder), days)
    print(f"{days} days, {len(STEPS) * len(SYSTEMS)} series, windows of a minute:")
    print(f"  {cost.clock_s:.0f} s by the clock, {cost.cpu_s:.0f} s CPU, {cost.memory_mb:,.0f} MB at the most")
    print(f"  {cost.false_alarms} false alarms, {cost.per_series_30d:.2f} per series in 30 days")
    print(f"  {cost.detected} of {cost.incidents} incidents of 10 to 60% detected")


if __name__ == "__main__":
    main()
