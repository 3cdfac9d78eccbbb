"""What the detection report simulates: the targets of the detector, and the scenarios beyond them."""

from __future__ import annotations

from dataclasses import dataclass

from tests.report.scenario import DAY_MS, MINUTE_MS, WEEK_MS, Scenario

HOUR_MS = 60 * MINUTE_MS
THICK = Scenario()
THIN = Scenario(per_minute=15.0)
SCORE = 4.5
SCORES = (3.5, 4.0, 4.5, 5.0, 6.0)


@dataclass(frozen=True, slots=True)
class Drop:
    """Incidents of one kind, an hour long."""

    loss: float
    ramp_ms: int = 0

    def __str__(self) -> str:
        """As the report names it."""
        return f"{self.loss:.0%}" + (f", ramp over {self.ramp_ms // MINUTE_MS} min" if self.ramp_ms else "")


DROPS = (Drop(0.6), Drop(0.3), Drop(0.2), Drop(0.1), Drop(0.3, 30 * MINUTE_MS))


@dataclass(frozen=True, slots=True)
class Target:
    """A number that the detector must reach: a share caught within so many windows, or a quantile of the delay."""

    text: str
    scenario: str
    drop: Drop
    limit: float
    windows: float = 0.0
    """Share caught within so many windows, at least ``limit``; 0: the delay's quantile, at most ``limit``."""
    quantile: float = 0.5


TARGETS = (
    Target("60% drop in 1 window", "200", DROPS[0], 0.95, windows=1),
    Target("30% drop within 2 windows, share", "200", DROPS[1], 0.95, windows=2),
    Target("20% drop within 5 windows, share", "200", DROPS[2], 0.95, windows=5),
    Target("10% drop, median", "200", DROPS[3], 8),
    Target("ramp to -30%, median", "200", DROPS[4], 12),
    Target("60% drop within 5 windows, share", "15", DROPS[0], 0.90, windows=5),
    Target("30% drop, median", "15", DROPS[1], 8),
    Target("30% drop, 90th percentile", "15", DROPS[1], 20, quantile=0.9),
    Target("20% drop, median", "15", DROPS[2], 16),
    Target("ramp to -30%, median", "15", DROPS[4], 26),
)
FALSE_LIMITS = {"200": 0.3, "15": 0.45}
BURST = Scenario(lag_s=90.0, bursts_a_day=3.0)


@dataclass(frozen=True, slots=True)
class Beyond:
    """A scenario without incidents that the targets do not speak of."""

    name: str
    scenario: Scenario
    series: int = 60
    past: bool = False
    """Incidents in the history: three hours, once a week."""


BEYOND = (
    Beyond("1-hour windows, 20 impressions each", Scenario(1 / 3, HOUR_MS, evaluated_ms=8 * WEEK_MS)),
    Beyond("1-hour windows, 200 each", Scenario(10 / 3, HOUR_MS, evaluated_ms=8 * WEEK_MS)),
    Beyond("1-hour windows, 2,000 each", Scenario(100 / 3, HOUR_MS, evaluated_ms=8 * WEEK_MS)),
    Beyond("5-minute windows, 20 each", Scenario(4.0, 5 * MINUTE_MS, evaluated_ms=2 * WEEK_MS)),
    Beyond("5-minute windows, 2,000 each", Scenario(400.0, 5 * MINUTE_MS, evaluated_ms=2 * WEEK_MS)),
    Beyond("1 a minute, none at night", Scenario(1.0, daily=1.0)),
    Beyond("3 a minute, none at night", Scenario(3.0, daily=1.0)),
    Beyond("rate about 0.02, 200 a minute", Scenario(rate=(0.015, 0.03))),
    Beyond("rate about 0.99, 200 a minute", Scenario(rate=(0.985, 0.995))),
    Beyond("rate about 0.99, 15 a minute", Scenario(15.0, rate=(0.985, 0.995))),
    Beyond("rho 0.02 to 0.05, 200 a minute", Scenario(rho=(0.02, 0.05))),
    Beyond("rho 0.02 to 0.05, 15 a minute", Scenario(15.0, rho=(0.02, 0.05))),
    Beyond("rate swings by 0.3 in log odds, 200 a minute", Scenario(swing=0.3)),
    Beyond("holiday: 0.3 of the volume for two days", Scenario(holiday=0.3)),
    Beyond("six hours without data, in history and now", Scenario(15.0, outage_ms=6 * HOUR_MS)),
    Beyond("past incidents of 30%, three hours a week", Scenario(), past=True),
    Beyond("history of 8 days, 15 a minute", Scenario(15.0, history_ms=8 * DAY_MS, evaluated_ms=5 * DAY_MS)),
    Beyond(
        "history of 8 days, 5 a minute, windows of 30 s, lag 30 s",
        Scenario(5.0, MINUTE_MS // 2, history_ms=8 * DAY_MS, evaluated_ms=5 * DAY_MS, lag_s=30.0),
    ),
    Beyond("history of 1 day, 15 a minute", Scenario(15.0, history_ms=DAY_MS, evaluated_ms=2 * DAY_MS), 150),
    Beyond("history of 3 hours, 15 a minute", Scenario(15.0, history_ms=3 * HOUR_MS, evaluated_ms=DAY_MS), 300),
    Beyond("success lag of 90 s, 15 a minute, no bursts", Scenario(15.0, lag_s=90.0)),
)
