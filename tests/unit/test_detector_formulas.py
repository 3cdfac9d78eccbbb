"""The vectorised formulas equal slow ones written down series by series, straight from DETECTION.md."""

from __future__ import annotations

import math
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelwatch.schemas.count_block import Block
from funnelwatch.schemas.counts import CountRow, Series
from funnelwatch.stream.detector.baseline import baseline, recent, seasonal
from funnelwatch.stream.detector.counts import Column, Counts
from funnelwatch.stream.detector.estimate import lag_kernel, share_out
from funnelwatch.stream.detector.estimation import estimate
from funnelwatch.stream.detector.scan import LONGEST, SCALES, Estimates, deviance_root, scan
from tests.unit.detector_sim import MONDAY, Sim

HOUR = 3_600_000
WEEK_ROWS = 168


def divergence(x: float, p: float) -> float:
    """KL(x, p) of two rates."""
    hit = x * math.log(x / p) if x > 0 else 0.0
    return hit + ((1 - x) * math.log((1 - x) / (1 - p)) if x < 1 else 0.0)


def slow_deviance_root(x: float, n: float, e: float, clumped: float = 0.0) -> float:
    """Signed root of 2 n KL(x, e), or of its mean with 2 n KL(e, x) for a drop."""
    n = max(n, x)
    plain = n * divergence(x / n, e / n)
    turned = min(plain, n * divergence(e / n, x / n)) if 0 < x < e else plain
    blend = (1 - clumped) * plain + clumped * turned
    return math.copysign(math.sqrt(max(0.0, 2 * blend)), e - x) if e != x else 0.0


def slow_beyond(seen: float, total: float, expected: float, base: float, clumped: float) -> float:
    """How far below the tolerated rate, without lag; ``clumped`` is the share of overdispersion in the variance."""
    mean = expected * (1 - 4.5 * math.sqrt(base))
    whole = min(seen + 0.5, max(seen, expected))
    return slow_deviance_root(whole, total, mean, clumped) * math.sqrt(1 - clumped) if whole < mean else -math.inf


@given(
    n=st.lists(st.integers(0, 300), min_size=LONGEST + 1, max_size=LONGEST + 1),
    p=st.floats(0.05, 0.95),
    hit=st.floats(0.0, 1.0),
    rho=st.floats(0.0, 0.05),
    base=st.floats(0.0, 0.01),
)
@settings(max_examples=60, deadline=None)
def test_the_scan_equals_the_formulas_series_by_series(
    n: list[int], p: float, hit: float, rho: float, base: float
) -> None:
    """Sums, z, scale and score of every k, without lag."""
    x = [round(hit * one) for one in n]
    found = scan(
        np.array(n, dtype=float)[:, None],
        np.array(x[1:], dtype=float)[:, None],
        np.full((LONGEST, 1), p),
        np.ones((LONGEST, 1), dtype=bool),
        Estimates(np.array([rho]), np.ones((1, 1)), np.full((len(SCALES), 1), 1.2)),
        np.full((len(SCALES), 1, 1), base),
    )

    for place, k in enumerate(SCALES.tolist()):
        total, seen = sum(n[-k:]), sum(x[-k:])
        expected = total * p
        variance = sum(one * p * (1 - p) * (1 + max(one - 1, 0) * rho) for one in n[-k:])
        clumped = 1 - sum(one * p * (1 - p) for one in n[-k:]) / max(variance, 1e-12)
        if total == 0:
            assert found.z[place, 0, 0] == 0
            continue
        root = slow_deviance_root(min(seen + 0.5, max(seen, expected)), total, expected, clumped)
        z = root * math.sqrt(expected * (1 - p) / variance)
        scale = math.sqrt(1.2**2 + base * expected**2 / variance)
        allowance = 0.5 * (math.sqrt(2 * math.log(43_200)) - math.sqrt(2 * math.log(43_200 / k)))
        beyond = slow_beyond(seen, total, expected, base, clumped) / 1.2
        assert found.score[place, 0, 0] == pytest.approx(max(z / scale, beyond) + allowance, rel=1e-6, abs=1e-5)
        assert found.drop[place, 0, 0] == pytest.approx(1 - seen / expected, abs=1e-9)


def test_lagging_success_adds_its_variance_at_both_ends_only() -> None:
    """The variance of a sum under lag equals that counted out cohort by cohort."""
    kernel = np.array([[0.6], [0.3], [0.1]])
    n = np.full((LONGEST + 3, 1), 50.0)
    p = 0.8
    found = scan(
        n, np.full((LONGEST, 1), 40.0), np.full((LONGEST, 1), p), np.ones((LONGEST, 1), dtype=bool),
        Estimates(np.zeros(1), kernel, np.ones((len(SCALES), 1))), np.zeros((len(SCALES), 1, 1)),
    )  # fmt: skip

    for place, k in enumerate(SCALES.tolist()):
        exact = 0.0
        for born in range(-2, k):
            share = sum(kernel[lag, 0] for lag in range(3) if 0 <= born + lag < k)
            exact += 50 * p * share * (1 - p * share)
        # A single window leaves out that a cohort may straddle both its ends: at most a fifth too large.
        assert exact - 1e-9 <= found.variance[place, 0, 0] <= exact * (1.2 if k == 1 else 1.0 + 1e-9)


def test_no_deviance_where_nothing_was_expected() -> None:
    """Empty windows have no score, and no warning is raised on the way."""
    assert deviance_root(np.zeros(1), np.zeros(1), np.zeros(1)).tolist() == [0.0]


def hourly(values: list[list[tuple[int, int]]]) -> Counts:
    """Counts in hourly windows; one column per list."""
    counts = Counts([("os",)], ["impressions", "window"], HOUR, 4 * WEEK_ROWS)
    for row in range(len(values[0])):
        tallies = {Series.of("f", "A", os=f"os{i}"): CountRow(one[row][0], one[row][1]) for i, one in enumerate(values)}
        counts.append(Block.of(MONDAY + row * HOUR, tallies))
    return counts


@given(st.integers(0, 2**32 - 1), st.integers(1, 4 * WEEK_ROWS - 1))
@settings(max_examples=25, deadline=None)
def test_the_seasonal_rate_is_the_median_over_past_weeks_of_the_pooled_rate(seed: int, row: int) -> None:
    """Each week pooled around the same time, thin series wider and wider, weeks with too little left out."""
    rng = np.random.default_rng(seed)
    n = rng.poisson(rng.choice([3, 12, 40, 6000]), (row + 1, 2))
    x = rng.binomial(n, 0.7)
    counts = hourly([list(zip(n[:, i].tolist(), x[:, i].tolist(), strict=True)) for i in range(2)])
    found = seasonal(counts, "window", np.array([row]))

    for i in range(2):
        centres = [row - week * WEEK_ROWS for week in (1, 2, 3)]
        narrow = sum(int(n[c, i]) for c in centres if c >= 0)
        weeks = max(1, sum(c + 1 >= 0 for c in centres))
        half = 1 if narrow < 60 * 60 * weeks else 0
        if sum(int(n[r, i]) for c in centres for r in range(max(0, c - half), max(0, c + half + 1))) < 400:
            half = 6
        rates, total = [], 0
        for c in centres:
            pool = range(max(0, c - half), max(0, c + half + 1))
            shown, made = sum(int(n[r, i]) for r in pool), sum(int(x[r, i]) for r in pool)
            if shown >= 20:
                rates.append(made / shown)
                total += shown
        assert bool(found.known[0, i]) == bool(rates)
        if rates:
            edge = 0.5 / (total + 1)
            assert found.rate[0, i] == pytest.approx(min(max(median(rates), edge), 1 - edge))


def test_a_series_too_thin_for_a_season_is_held_against_thirteen_weeks_but_the_last() -> None:
    """All that is known of hourly windows with one impression each, without the week in which an incident may be."""
    counts = hourly([[(1, int(row < 3 * WEEK_ROWS)) for row in range(4 * WEEK_ROWS)]])

    found = baseline(counts, "window", np.array([4 * WEEK_ROWS - 1]))

    pooled = 3 * WEEK_ROWS - 1
    assert found.strength[0, 0] == pooled
    assert found.rate[0, 0] == pytest.approx(1 - 0.5 / (pooled + 1))
    assert found.seasonal[0, 0]


def test_the_recent_rate_is_of_the_last_six_hours_and_not_of_the_last_ten_minutes() -> None:
    """An incident that has just begun does not lower what is expected."""
    counts = Counts([()], ["impressions", "window"], 60_000, 1000)
    for row in range(400):
        counts.append(Block.of(row * 60_000, {Series.of("f", "A", os="iOS"): CountRow(10, 9 if row < 390 else 0)}))

    found = recent(counts, "window", np.array([20, 399]))

    assert found.known[:, 0].tolist() == [False, True]
    assert found.rate[1, 0] == pytest.approx(0.9)
    assert found.per_window[1, 0] == pytest.approx(10)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 5), st.integers(0, 50), st.integers(0, 50)), max_size=60))
@settings(max_examples=80, deadline=None)
def test_counts_of_any_stretch_equal_a_plain_sum(events: list[tuple[int, int, int, int]]) -> None:
    """Gaps, new series, revisions and a limit of 40 rows: every stretch adds up."""
    counts = Counts([(), ("os",)], ["impressions", "window"], 1000, 40)
    plain: dict[int, dict[str, tuple[int, int]]] = {}
    newest = -1
    for row, os, shown, made in events:
        if row > newest or 0 <= counts.row_of(row * 1000) < counts.rows:
            plain.setdefault(row, {})[f"os{os}"] = (shown, made)
            tallies = {Series.of("f", "A", os=name): CountRow(*two) for name, two in plain[row].items()}
            (counts.append if row > newest else counts.revise)(Block.of(row * 1000, tallies))
            newest = max(newest, row)

    first, end = counts.first, counts.first + counts.rows
    for column, place in counts.columns.items():
        for channel, index in (("impressions", 0), ("window", 1)):
            each = counts.each(channel, 0, counts.rows, slice(None))[:, place]
            wanted = [
                sum(
                    two[index]
                    for name, two in plain.get(row, {}).items()
                    if not column.level or column.values == (name,)
                )
                for row in range(first, end)
            ]
            assert each.tolist() == wanted
            whole = counts.sums(channel, np.array([-5]), np.array([counts.rows + 5]))[0, place]
            assert whole == sum(wanted)


def test_sums_stay_right_when_the_running_total_wraps() -> None:
    """Sums are kept modulo 2**32; a stretch across the wrap is still exact."""
    counts = Counts([()], ["impressions"], 1000, 10)
    for row in range(8):
        counts.append(Block.of(row * 1000, {Series.of("f", "A"): CountRow(1_500_000_000 + row)}))

    assert counts.each("impressions", 0, 8, slice(None))[:, 0].tolist() == [1_500_000_000 + row for row in range(8)]


@pytest.mark.parametrize(("lag_s", "share"), [(0.001, 1.0), (30.0, 0.57)])
def test_the_lag_of_success_is_found_from_counts(lag_s: float, share: float) -> None:
    """An exponential lag of half a window leaves 57 % of the successes in the window of the impression."""
    sim = Sim(2, steps={"A": 0.8}, other_lag_s=lag_s, per_minute=20)
    values = [window.series for window in sim.windows(3000)]
    n = np.array([[tally.impressions for tally in one.values()] for one in values], dtype=float)
    x = np.array([[tally.successes for tally in one.values()] for one in values], dtype=float)

    kernel = lag_kernel(n, x, np.full_like(n, 0.8), 4)

    assert kernel.sum() == pytest.approx(1.0)
    assert kernel[0] == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("rho", [0.001, 0.005, 0.02])
def test_overdispersion_is_found_and_never_beyond_its_bounds(rho: float) -> None:
    """Six series of a step at 100 a minute, four days."""
    sim = Sim(4, steps={"A": 0.8}, systems=tuple("abcdef"), other_lag_s=2, rho=rho, per_minute=100)
    counts = Counts([("os",)], ["impressions", "window"], 60_000, 10_000)
    for window in sim.windows(4 * 1440):
        counts.append(Block.of(window.window_start, window.series))

    found = estimate(counts, "window", counts.rows, 3)

    assert found.rho == pytest.approx(rho, rel=0.35, abs=0.0007)
    assert (found.rho >= 0).all()
    assert (found.rho <= 0.05).all()


def test_series_without_history_take_the_overdispersion_of_their_group() -> None:
    """What is not known of a series is taken from its like, and what is not known at all from the usual."""
    used = share_out(np.array([0.02, 0.0, 0.0]), np.array([1e-8, np.inf, np.inf]), np.array([0, 0, 1]))

    assert used[0] == pytest.approx(0.02, abs=1e-3)
    assert 0.012 < used[1] < 0.02
    assert 0.006 <= used[2] < 0.01


def test_a_column_tells_its_dimensions() -> None:
    """Level and values belong together."""
    assert Column(("os", "browser"), "A", ("iOS", "Safari")).dimensions == {"os": "iOS", "browser": "Safari"}
