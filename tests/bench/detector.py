"""What judging costs: ``make bench-detector``, or ``make bench-detector ARGS="100 1000"``.

One process, one core, seconds of CPU time. A column is a judged series with three weeks of history in windows of a
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

from alert_rules.loader import parse_rules
from alert_rules.model import Rules
from stream.detector.block import Block
from stream.detector.detector import Detector
from stream.model import ClosedWindow, Series, Tally

MINUTE = 60_000
DAY = 1440
BEGIN = 1_767_571_200_000  # a Monday
RULE = "groups: [{name: g, rules: [{alert: D, by: [[os, browser, app_version]]}]}]"


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
    estimate_s: float
    """A window with the next daily estimate."""
    counts_mb: float
    resident_mb: float
    transitions: int
    rate: float
    """The expected rate of the first series, as the detector has it."""


def measure(columns: int, days: int = 21, windows: int = 20, seed: int = 1) -> Cost:
    """Judge ``windows`` windows after ``days`` days of history, and the first one of the day after."""
    rng = np.random.default_rng(seed)
    series = [Series("f", f"S{i % 10}", f"o{i // 10 % 5}", f"b{i // 50 % 10}", f"{i // 500}") for i in range(columns)]
    detector = Detector("f", Rules(tuple(parse_rules(RULE))), MINUTE)
    hours = [_tallies(rng, 60, columns) for _ in range(4)]
    began = time.process_time()
    for hour in range(days * 24):
        detector.learn(Block(BEGIN + hour * 60 * MINUTE, series, hours[hour * 7 % 4]))
    learned = time.process_time()
    at = BEGIN + days * DAY * MINUTE
    live = [_tallies(rng, 1, columns)[0] for _ in range(4)]
    moves, times = 0, []
    for number in range(windows + 1):
        window = _window(at + number * MINUTE, series, live[number % 4])
        start = time.process_time()
        moves += len(detector.observe(window))
        times.append(time.process_time() - start)
    detector.learn(Block(at + (windows + 1) * MINUTE, series, _tallies(rng, DAY - windows - 1, columns)))
    window = _window(at + DAY * MINUTE, series, live[0])
    start = time.process_time()
    moves += len(detector.observe(window))
    ended = time.process_time()
    shown = detector.counts.stretch("impressions", np.array([0]), np.array([detector.counts.rows]))
    made = detector.counts.stretch("window", np.array([0]), np.array([detector.counts.rows]))
    used = sum(counts.cum[:, : counts.rows].nbytes for counts in (detector.counts, detector.drill))
    return Cost(
        columns, windows, learned - began, times[0], float(np.mean(times[1:])), ended - start, used / 1e6,
        psutil.Process().memory_info().rss / 1e6, moves, float(made[0, 0] / shown[0, 0]),
    )  # fmt: skip


def _tallies(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Counts at a rate of 0.8."""
    shown = rng.poisson(20, (rows, columns)).astype(np.int32)
    made = rng.binomial(shown, 0.8).astype(np.int32)
    return np.stack([shown, made, shown - made, made, shown - made], axis=2)


def _window(start: int, series: list[Series], tallies: np.ndarray) -> ClosedWindow:
    """A closed window as the closer publishes it."""
    counts = {one: Tally(*values) for one, values in zip(series, tallies.tolist(), strict=True)}
    return ClosedWindow("f", start, start + MINUTE, 0, counts)


def main() -> None:
    """Print a line for each number of columns."""
    print("columns  a window  daily estimate  a minute, mean   counts  resident  learning 3 weeks  first window")
    for columns in [int(text) for text in sys.argv[1:]] or [100, 1_000, 10_000]:
        cost = measure(columns)
        mean = cost.window_s + cost.estimate_s / DAY
        judging = f"{cost.window_s * 1000:>5.0f} ms  {cost.estimate_s:>12.2f} s  {mean * 1000:>11.0f} ms"
        memory = f"{cost.counts_mb:>4,.0f} MB  {cost.resident_mb:>5,.0f} MB"
        print(f"{columns:>7,}  {judging}  {memory}  {cost.learn_s:>14.1f} s  {cost.first_s:>10.2f} s", flush=True)


if __name__ == "__main__":
    main()
