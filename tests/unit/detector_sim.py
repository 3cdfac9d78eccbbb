"""A small seeded funnel for the detector's tests: seasons, overdispersed conversion, lagging success, one incident."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.count_history import KEPT, by_funnel
from funnelwatch.schemas.counts import ClosedWindow, CountRow, Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from funnelwatch.stream.detector.detector import Detector

DAY_MS = 86_400_000
MONDAY = 1_700_438_400_000  # 2023-11-20T00:00:00Z
STEPS = {"INPUT_PHONE_NUMBER": 0.9, "VERIFY_SMS_CODE": 0.8, "INPUT_NAME": 0.95, "INPUT_PASSWORD": 0.85}
SYSTEMS = ("iOS", "Android", "Desktop")


def learn(detector: Detector, windows: Sequence[ClosedWindow]) -> None:
    """Let a detector learn windows as a worker does that reads them from the database, where no row is empty."""
    rows = [(one.window_start, *item) for one in windows for item in one.series.items() if any(item[1])]
    series = list(dict.fromkeys(one for _, one, _ in rows))
    number = {one: place for place, one in enumerate(series)}
    places = np.array([number[one] for _, one, _ in rows], dtype=np.intp)
    tallies = np.array([[getattr(tally, name) for name in KEPT] for _, _, tally in rows], dtype=np.uint32)
    [history] = by_funnel(series, np.array([start for start, _, _ in rows]), places, tallies)
    for block in history.every_block(detector.window_ms):
        detector.learn(block)


@dataclass
class Sim:
    """One funnel; every number drawn from the seed."""

    seed: int
    window_ms: int = 60_000
    begin: int = MONDAY
    steps: dict[str, float] = field(default_factory=lambda: dict(STEPS))
    systems: tuple[str, ...] = SYSTEMS
    lag_s: dict[str, float] = field(default_factory=lambda: {"VERIFY_SMS_CODE": 30.0})
    other_lag_s: float = 4.0
    rho: float = 0.005
    per_minute: float = 8.0
    loss: Callable[[int, str, str], float] = lambda start, step, system: 0.0
    """Share of successes lost in the cohort of the window that starts then."""
    volume: Callable[[int], float] = lambda start: 1.0
    """Factor on the traffic."""

    def windows(self, count: int) -> Iterator[ClosedWindow]:
        """The closed windows, in order, cohort counts complete."""
        rng = np.random.default_rng(self.seed)
        starts = self.begin + self.window_ms * np.arange(count)
        hours = starts % DAY_MS / 3_600_000
        season = 0.55 + 0.45 * np.sin((hours - 9) / 24 * 2 * np.pi)
        volume = np.array([self.volume(int(start)) for start in starts])
        counts: dict[Series, np.ndarray] = {}
        for step, rate in self.steps.items():
            for system in self.systems:
                n = rng.poisson(self.per_minute * self.window_ms / 60_000 * season * volume)
                keep = np.array([1 - self.loss(int(start), step, system) for start in starts])
                mean = np.clip(rate + 0.02 * np.sin((hours - 15) / 24 * 2 * np.pi), 0.01, 0.99)
                p = mean if not self.rho else rng.beta(mean * (1 / self.rho - 1), (1 - mean) * (1 / self.rho - 1))
                cohort = rng.binomial(n, p * keep)
                born = np.repeat(np.arange(count), cohort)
                lag = rng.exponential(self.lag_s.get(step, self.other_lag_s) * 1000 / self.window_ms, len(born))
                seen = np.bincount((born + rng.random(len(born)) + lag).astype(int), minlength=count)[:count]
                browser = {"iOS": "Safari", "Android": "Chrome"}.get(system, "Firefox")
                counts[Series.of("sign_up", step, os=system, browser=browser, app_version="1.0")] = np.stack(
                    [n, seen, 0 * n, cohort, n - cohort], axis=1
                )
        for row in range(count):
            tallies = {series: CountRow(*map(int, values[row])) for series, values in counts.items()}
            start = int(starts[row])
            yield ClosedWindow("sign_up", start, start + self.window_ms, 0, tallies)
