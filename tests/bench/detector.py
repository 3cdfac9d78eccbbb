"""What evaluating costs: ``make bench-detector``, or ``make bench-detector ARGS="100 1000"``.

One process, one core, seconds of CPU time. A column is an evaluated series with three weeks of history in windows of a
minute, 20 impressions in each.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import psutil

from funnelwatch.alert_rules.loader import parse_rules
from funnelwatch.alert_rules.model import Rules
from funnelwatch.schemas.count_block import Block
from funnelwatch.schemas.count_history import WINDOWS
from funnelwatch.schemas.counts import ClosedWindow, CountRow, Series
from funnelwatch.stream.detector.detector import Detector
from funnelwatch.stream.detector.panel import REGULARLY, SPREAD, YOUNG

MINUTE = 60_000
DAY = 1440
BEGIN = 1_767_571_200_000  # a Monday
RULE = "groups: [{name: g, rules: [{alert: D, by: [[os, browser, app_version]]}]}]"
POOL = 600
"""So many windows are drawn; those of history and the evaluated ones are picked from them at random."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What was measured."""

    columns: int
    windows: int
    learn_s: float
    """Taking in the history."""
    first_s: float
    """The first window, with the first estimate of noise."""
    window_s: float
    """A window after it, mean, without an estimate."""
    estimating_s: float
    """A window while the next estimate of noise is worked out, mean."""
    longest_s: float
    """The dearest window of all but the first."""
    counts_mb: float
    resident_mb: float
    transitions: int
    rate: float
    """The expected rate of the first series, as the detector has it."""

    @property
    def mean_s(self) -> float:
        """A window, over all the time between two estimates."""
        return self.window_s + (self.estimating_s - self.window_s) / SPREAD


def measure(columns: int, days: int = 21, windows: int = 20, seed: int = 1) -> Cost:
    """Evaluate ``windows`` windows after ``days`` days of history, and as many while noise is estimated anew."""
    rng = np.random.default_rng(seed)
    series = [
        Series.of("f", f"S{i % 10}", os=f"o{i // 10 % 5}", browser=f"b{i // 50 % 10}", app_version=f"{i // 500}")
        for i in range(columns)
    ]
    detector = Detector("f", Rules(tuple(parse_rules(RULE))), MINUTE)
    pool = _tallies(rng, POOL, columns)
    at = BEGIN + days * DAY * MINUTE
    began = time.process_time()
    _learn(detector, series, pool, (BEGIN, at), rng)
    learned = time.process_time()
    moves = 0

    def evaluate(start: int) -> float:
        nonlocal moves
        window = _window(start, series, pool[rng.integers(POOL)])
        clock = time.process_time()
        moves += len(detector.observe(window))
        return time.process_time() - clock

    first, *usual = [evaluate(at + number * MINUTE) for number in range(windows + 1)]
    every = _every(days)
    again = (at // every + 1) * every
    _learn(detector, series, pool, (at + (windows + 1) * MINUTE, again), rng)
    evaluate(again)  # the rates of the hour before it are made anew for it
    estimating = [evaluate(again + number * MINUTE) for number in range(1, windows + 1)]
    shown = detector.counts.sums("impressions", np.array([0]), np.array([detector.counts.rows]))
    made = detector.counts.sums("window", np.array([0]), np.array([detector.counts.rows]))
    used = sum(
        counts.cum[:, : counts.rows].nbytes for counts in (detector.counts, detector.drill.windows, detector.drill.rows)
    )
    return Cost(
        columns, windows, learned - began, first, float(np.mean(usual)), float(np.mean(estimating)),
        max(usual + estimating), used / 1e6, psutil.Process().memory_info().rss / 1e6, moves,
        float(made[0, 0] / shown[0, 0]),
    )  # fmt: skip


def _every(days: int) -> int:
    """How often noise is estimated after so many days, ms."""
    return next((every for limit, every in YOUNG if days * DAY * MINUTE < limit), REGULARLY)


def _learn(
    detector: Detector, series: list[Series], pool: np.ndarray, span: tuple[int, int], rng: np.random.Generator
) -> None:
    """History in [begin, end), in blocks as a worker reads them."""
    rows = max(1, min(WINDOWS, 262_144 // len(series)))
    for start in range(span[0], span[1], rows * MINUTE):
        some = min(rows, (span[1] - start) // MINUTE)
        detector.learn(Block.dense(start, series, pool[rng.integers(POOL, size=some)]))


def _tallies(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Counts at a rate of 0.8."""
    shown = rng.poisson(20, (rows, columns)).astype(np.int32)
    made = rng.binomial(shown, 0.8).astype(np.int32)
    return np.stack([shown, made, shown - made, made, shown - made], axis=2)


def _window(start: int, series: list[Series], tallies: np.ndarray) -> ClosedWindow:
    """A closed window as the closer publishes it."""
    counts = {one: CountRow(*values) for one, values in zip(series, tallies.tolist(), strict=True)}
    return ClosedWindow("f", start, start + MINUTE, 0, counts)


def main() -> None:
    """Print a line for each number of columns."""
    print(
        "columns  a window  while estimating  dearest  a minute, mean   counts  resident  3 weeks learned  first window"
    )
    for columns in [int(text) for text in sys.argv[1:]] or [100, 1_000, 10_000]:
        cost = measure(columns)
        evaluating = f"{cost.window_s * 1000:>5.0f} ms  {cost.estimating_s * 1000:>13.0f} ms  {cost.longest_s:>5.2f} s"
        memory = f"{cost.mean_s * 1000:>11.0f} ms  {cost.counts_mb:>4,.0f} MB  {cost.resident_mb:>5,.0f} MB"
        print(f"{columns:>7,}  {evaluating}  {memory}  {cost.learn_s:>13.1f} s  {cost.first_s:>10.2f} s", flush=True)


if __name__ == "__main__":
    main()
