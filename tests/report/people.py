"""Which basis to alert on: the same people, who reload and retry, among bots, counted by window, cohort and session.

A person opens a step once and completes it or not, by the scenario's rates. Episodes of 20 minutes, two a day and
series, add impressions that change nothing about people. A success counts on a maturing basis only when it has come
by the time at which the rule evaluates its window, as it does live.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tests.report.cases import SCORE, Drop
from tests.report.measure import Delays, delays, false_alarms
from tests.report.runner import Alarm, alarms_of, blocks_of
from tests.report.scenario import (
    DAY_MS,
    MINUTE_MS,
    Incident,
    Scenario,
    arriving,
    beta_binomial,
    spread_incidents,
    true_rate,
    volume,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from funnelwatch.schemas.arrays import Floats, Ints

PEOPLE = Scenario(per_minute=60.0, lag_s=20.0, history_ms=8 * DAY_MS, evaluated_ms=3 * DAY_MS)
DROPS = (Drop(0.6), Drop(0.3), Drop(0.2), Drop(0.1))
TYPICAL = DROPS[2]
"""Delays are held equal on it."""
SCORES = (4.0, SCORE, 6.0, 9.0, 14.0)
EPISODES_A_DAY = 2.0
EPISODE_MS = 20 * MINUTE_MS
RETRY = 1
"""Windows by which a retry is later than the first try."""
BOT_SESSIONS = 0.2
"""Sessions that bots which keep their id begin in a minute, however often they load."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of traffic: what an episode adds, per person."""

    name: str
    reloads: float = 0.0
    retries: float = 0.0
    """Failed tries before the one that counts, each with an impression."""
    bots: float = 0.0
    new_ids: bool = False
    """Whether each load of a bot is a session of its own."""


KINDS = (
    Kind("clean"),
    Kind("reloads", reloads=0.5),
    Kind("retries", retries=0.5),
    Kind("bots, one id each", bots=0.5),
    Kind("bots, a new id each load", bots=0.5, new_ids=True),
)


@dataclass(frozen=True, slots=True)
class Choice:
    """A rule: a basis, its maturity in windows, and a score."""

    basis: str
    maturity: int
    score: float

    @property
    def behind(self) -> int:
        """How many windows after the evaluated one the rule evaluates it."""
        return 0 if self.basis == "window" else self.maturity


BASES = (("window", 2), ("cohort", 2), ("session", 2), ("session", 1))
CHOICES = tuple(Choice(basis, maturity, score) for basis, maturity in BASES for score in SCORES)


@dataclass
class Compared:
    """False alarms per series in 30 days by rule and kind; delays by rule and drop, until the rule has evaluated it."""

    false: dict[tuple[Choice, str], float] = field(default_factory=dict)
    late: dict[tuple[Choice, Drop], Delays] = field(default_factory=dict)

    def lates(self, choice: Choice) -> list[Delays]:
        """The delays of a rule, drop by drop."""
        return [self.late[choice, drop] for drop in DROPS]

    def equally_late(self, choice: Choice, basis: str, maturity: int) -> Choice:
        """The rule on this basis with the highest score that tells a typical drop as soon as another, in the median."""
        limit = self.late[choice, TYPICAL].quantile(0.5)
        own = [one for one in CHOICES if (one.basis, one.maturity) == (basis, maturity)]
        fitting = [one for one in own if self.late[one, TYPICAL].quantile(0.5) <= limit]
        return max(fitting or own[:1], key=lambda one: one.score)


def compare(series: int, seed: int) -> Compared:
    """All kinds of traffic without drops, each in so many series; and clean traffic with drops."""
    found = Compared()
    for number, kind in enumerate(KINDS):
        for choice, alarms in _run(kind, series, seed + number, ()).items():
            found.false[choice, kind.name] = false_alarms(_starts(alarms), PEOPLE, series)
    rng = np.random.default_rng([seed, 2])
    groups = [
        spread_incidents(PEOPLE, range(place * series, (place + 1) * series), drop.loss, 60 * MINUTE_MS, 0, rng)
        for place, drop in enumerate(DROPS)
    ]
    dropping = _run(KINDS[0], series * len(DROPS), seed + 50, [one for group in groups for one in group])
    for choice, alarms in dropping.items():
        for drop, group in zip(DROPS, groups, strict=True):
            raw = delays(_starts(alarms), group)
            found.late[choice, drop] = Delays(tuple(one + choice.behind for one in raw.windows))
    return found


def _starts(found: Iterable[Alarm]) -> list[tuple[int, int]]:
    return [(one.series, one.row) for one in found]


def _run(kind: Kind, series: int, seed: int, incidents: Iterable[Incident]) -> dict[Choice, list[Alarm]]:
    """The alarms of every rule; counts on a maturing basis are those of its maturity."""
    found: dict[Choice, list[Alarm]] = {}
    drawn = draw_people(kind, series, seed, incidents)
    for maturity in sorted({maturity for _, maturity in BASES}):
        wanted = {one: (one.score, one.basis, f"{one.maturity}m") for one in CHOICES if one.maturity == maturity}
        found |= alarms_of(PEOPLE, blocks_of(PEOPLE, drawn.columns(maturity)), wanted)
    return found


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts by window and series."""

    impressions: Ints
    successes: Ints
    failures: Ints
    sessions: Ints
    passed: tuple[Ints, ...]
    """Sessions with a success so many windows after their impression at most."""

    def columns(self, maturity: int) -> list[Ints]:
        """The first fields of a CountRow, as a rule of this maturity (windows) has them when it evaluates."""
        passed = self.passed[maturity]
        # A person's success is one event: by cohort it is a share of the impressions, by session of the people.
        return [
            self.impressions, self.successes, self.failures,
            passed, self.impressions - passed, self.sessions, np.minimum(passed, self.sessions),
        ]  # fmt: skip


def draw_people(kind: Kind, series: int, seed: int, incidents: Iterable[Incident]) -> Counted:
    """Counts of so many independent series; the same seed gives the same counts."""
    rng = np.random.default_rng(seed)
    people = rng.poisson(volume(PEOPLE, series, rng)).astype(np.int64)
    rate = true_rate(PEOPLE, series, rng)
    keep = np.ones(people.shape)
    for one in incidents:
        keep[one.begin : one.begin + one.length, one.series] *= 1.0 - one.loss
    made = beta_binomial(people, rate, rng.uniform(*PEOPLE.rho, series), keep, rng)
    share = _episodes(people.shape, rng)
    reloads, bots = (rng.poisson(people * share * per_person) for per_person in (kind.reloads, kind.bots))
    failures = rng.poisson(people * share * kind.retries)
    retried = rng.binomial(made, np.minimum(share * kind.retries, 1.0))
    passed = [np.zeros_like(made) for _ in range(1 + max(maturity for _, maturity in BASES))]
    successes = np.zeros_like(made)
    for group, more in ((made - retried, 0), (retried, RETRY)):
        for late, now in arriving(group, PEOPLE, rng):
            successes[late + more :] += now[: len(now) - late - more]
            for within in range(late + more, len(passed)):
                passed[within] += now
    begun = bots if kind.new_ids else np.minimum(bots, rng.poisson(BOT_SESSIONS, bots.shape))
    return Counted(people + reloads + failures + bots, successes, failures, people + begun, tuple(passed))


def _episodes(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """1 in the windows of an episode, else 0; in the history too."""
    length = EPISODE_MS // PEOPLE.window_ms
    begun = rng.random(shape) < EPISODES_A_DAY * PEOPLE.window_ms / DAY_MS
    share = np.zeros(shape)
    for late in range(length):
        share[late:] = np.maximum(share[late:], begun[: shape[0] - late])
    return share
