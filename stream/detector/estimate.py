"""What history says about noise: lag of success, overdispersion, and the spread of z (DETECTION.md, steps 2 and 4).

Estimated now and then at fixed event times from whole windows before that time, so that it does not depend on when or
how often the program was started.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stream.detector.baseline import MEDIAN_LOSS, MINUTE_MS, NARROW_MS, THIN_PER_MINUTE, WEEK_MS, WEEKS, WIDE_MS
from stream.detector.scan import LONGEST, SCALES, Estimates, deviance_root, due, split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stream.detector.counts import Counts

    Floats = NDArray[np.float64]
    Rows = NDArray[np.intp]

RHO_MAX = 0.05
RHO_UNKNOWN = 0.006
RHO_USUAL_SD = 0.004
"""Assumed until there is history: about the middle of what real funnels showed, 0.002 to 0.03, on a log scale."""
RHO_APART = 0.002
"""How far the overdispersion of series of one step and level lies apart (standard deviation)."""
MIN_LAG_ROWS = 100
MIN_SAMPLES = 100
SAMPLES = 1000
BLOCK = 64
"""Columns treated at a time: bounds the memory."""
STEEP = 25.0
"""A squared deviation counts at most this often its variance, so that an edge of an incident does not rule."""


def unknown(columns: int, lags: int) -> Estimates:
    """What is assumed without history: no lag, moderate overdispersion."""
    kernel = np.zeros((lags, columns))
    kernel[0] = 1.0
    return Estimates(np.full(columns, RHO_UNKNOWN), kernel, np.ones((len(SCALES), columns)))


def estimate(counts: Counts, basis: str, end: int, lags: int) -> Estimates:
    """The estimates from the windows before row ``end``, of the last three weeks at most.

    ``lags`` is how many windows after its own a success may come; 1 says that it never comes later (cohort basis).
    """
    columns = len(counts.columns)
    result = unknown(columns, lags)
    begin = max(0, end - WEEKS * (WEEK_MS // counts.window_ms))
    if end - begin < 2 or not columns:  # noqa: PLR2004
        return result
    if lags > 1:
        _estimate_lags(counts, basis, begin, end, result.kernel)
    doubt = np.empty(columns)
    blocks = [np.arange(first, min(first + BLOCK, columns)) for first in range(0, columns, BLOCK)]
    for part in blocks:
        view = _view(counts, basis, begin, end, result.kernel[:, part], part)
        result.rho[part], doubt[part] = overdispersion(view)
    names = [(column.step, column.level) for column in counts.columns]
    groups = {name: number for number, name in enumerate(dict.fromkeys(names))}
    result.rho[:] = share_out(result.rho, doubt, np.array([groups[name] for name in names]))
    if end - begin > WEEK_MS // counts.window_ms:
        for part in blocks:
            view = _view(counts, basis, begin, end, result.kernel[:, part], part)
            result.sigma[:, part] = _spread(counts.window_ms, view, result.rho[part])
    return result


@dataclass(frozen=True, slots=True)
class _View:
    """History of some columns, row by row: shape (rows, columns)."""

    n: Floats
    """Impressions whose success is due in the row."""
    pairs: Floats
    """Pairs of them that share a cohort, which is what overdispersion works on."""
    x: Floats
    rate: Floats
    own: Floats
    """Share of the row in its rate."""
    edges: Floats
    """Variance that lagging success adds at the end of the row."""


def _view(  # noqa: PLR0917
    counts: Counts, basis: str, begin: int, end: int, kernel: Floats, part: Rows
) -> _View:
    """The rows [begin, end) of the columns ``part``."""
    shown = counts.each("impressions", begin - len(kernel) + 1, end, part)
    rate, own = local_rate(counts, basis, begin, end, part)
    x = counts.each(basis, begin, end, part)
    pairs = due(shown * np.maximum(shown - 1.0, 0.0), kernel**2)
    return _View(due(shown, kernel), pairs, x, rate, own, due(shown, split(kernel)) * rate**2)


def local_rate(counts: Counts, basis: str, begin: int, end: int, part: Rows) -> tuple[Floats, Floats]:
    """The rate of the hour before and after each row (in [begin, end)), and the share that the row itself has in it."""
    half = max(1, WIDE_MS // counts.window_ms)
    rows = np.arange(begin, end)
    low, high = np.clip(rows - half, begin, end), np.clip(rows + half + 1, begin, end)
    sums = []
    for channel in ("impressions", basis):
        each = counts.each(channel, begin - 1, end, part)
        cum = np.cumsum(each, axis=0)
        sums.append(cum[high - begin] - cum[low - begin])
        if channel == "impressions":
            own = np.minimum(each[1:] / np.maximum(sums[0], 1.0), 0.5)
    edge = 0.5 / (sums[0] + 1.0)
    return np.clip(sums[1] / np.maximum(sums[0], 1.0), edge, 1.0 - edge), own


def overdispersion(view: _View) -> tuple[Floats, Floats]:
    """Rho of each column and its variance; infinite where there is nothing to tell it from.

    Least squares of the squared deviation, in units of its variance without overdispersion, on (n - 1): the moment
    equation E[(x - n p)²] = n p (1 - p) (1 + (n - 1) rho), with what lagging successes add in both. A
    row's deviation is too small by the share that the row has in its own local rate.
    """
    n, rate = view.n, view.rate
    before = np.concatenate([view.edges[:1], view.edges[:-1]])
    plain = n * rate * (1.0 - rate) + view.edges + before
    usable = (n > 1.0) & (plain > 0)
    safe = np.where(usable, plain, 1.0)
    ratio = np.where(usable, np.minimum((view.x - n * rate) ** 2 / safe / (1.0 - view.own), STEEP) - 1.0, 0.0)
    gain = np.where(usable, view.pairs * rate * (1.0 - rate) / safe, 0.0)
    information = np.maximum((gain**2).sum(axis=0), 1e-12)
    slope: Floats = (gain * ratio).sum(axis=0) / information
    noise = (gain**2 * (ratio - gain * np.clip(slope, 0.0, RHO_MAX)) ** 2).sum(axis=0)
    enough = usable.sum(axis=0) >= MIN_LAG_ROWS
    return np.where(enough, slope, 0.0), np.where(enough, noise / information**2, np.inf)


def share_out(slope: Floats, doubt: Floats, groups: NDArray[np.intp]) -> Floats:
    """Rho for use: each column's own estimate as far as it is sure, else that of its group, else the usual one.

    Normal shrinkage twice: columns of a group differ by RHO_APART, groups from the usual value by RHO_USUAL_SD.
    Half a standard error is added, for the scan is hurt more by a rho too small; the result is within [0, RHO_MAX].
    """
    weight = 1.0 / (doubt + RHO_APART**2)
    number = int(groups.max()) + 1
    known = np.bincount(groups, weight, number)
    total = known + 1.0 / RHO_USUAL_SD**2
    # A group's estimate below 0 says no more than 0: what is left over of the lag must not outvote the usual value.
    group = np.maximum(np.bincount(groups, weight * slope, number), 0.0)
    middle = (group + RHO_UNKNOWN / RHO_USUAL_SD**2) / total
    prior = 1.0 / (RHO_APART**2 + 1.0 / total[groups])
    own = 1.0 / np.maximum(doubt, 1e-12)
    mean = (own * slope + prior * middle[groups]) / (own + prior)
    return np.clip(mean + 0.5 / np.sqrt(own + prior), 0.0, RHO_MAX)


def _estimate_lags(counts: Counts, basis: str, begin: int, end: int, kernel: Floats) -> None:
    """Fill in the lag kernel of every column; columns of one step share it, lag being a matter of the step."""
    steps: dict[str, list[int]] = {}
    for column, place in counts.columns.items():
        steps.setdefault(column.step, []).append(place)
    for places in steps.values():
        part = np.array(places[:BLOCK])
        n = counts.each("impressions", begin, end, part)
        x = counts.each(basis, begin, end, part)
        if (n > 0).sum() >= MIN_LAG_ROWS:
            kernel[:, places] = lag_kernel(n, x, local_rate(counts, basis, begin, end, part)[0], len(kernel))[:, None]


def lag_kernel(n: Floats, x: Floats, rate: Floats, lags: int) -> Floats:
    """Shares of success by lag, from how x follows the ups and downs of earlier n: shape (lags,), sum 1.

    Least squares of x / rate on n of this and earlier windows, both less their local level, weighted by 1 / level.
    Shares below three standard errors are taken as zero (a false one would explain away overdispersion); no lag is
    assumed where the fit explains little.
    """
    kernel = np.zeros(lags)
    kernel[0] = 1.0
    half = min(30, max(1, (len(n) - 1) // 4))
    level = np.maximum(_smooth(n, half), 1e-9)
    weight = np.where(level > 0.05, 1.0 / np.sqrt(np.maximum(level, 0.05)), 0.0)  # noqa: PLR2004
    moves = (n - level) * weight
    answer = (x / rate - _smooth(x / rate, half)) * weight
    rows = len(n) - lags + 1
    if rows < lags:
        return kernel
    earlier = [moves[lags - 1 - lag : lags - 1 - lag + rows].ravel() for lag in range(lags)]
    design = np.stack(earlier)
    target = answer[lags - 1 :].ravel()
    gram = design @ design.T
    power = float(np.trace(gram)) / lags
    if power <= 0:
        return kernel
    shares = np.linalg.solve(gram + 1e-6 * power * np.eye(lags), design @ target).astype(np.float64)
    rest = target - shares @ design
    error = np.sqrt(float(rest @ rest) / max(int((weight[lags - 1 :] > 0).sum()), 1) / power)
    shares = np.where(shares > 3.0 * error, shares, 0.0)
    total = float(shares.sum())
    if not 0.5 < total < 1.5:  # noqa: PLR2004
        return kernel
    result: Floats = shares / total
    return result


def _smooth(values: Floats, half: int) -> Floats:
    """The mean over ``half`` rows before and after each."""
    cum = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    rows = np.arange(len(values))
    low, high = np.maximum(rows - half, 0), np.minimum(rows + half + 1, len(values))
    result: Floats = (cum[high] - cum[low]) / (high - low)[:, None]
    return result


def _spread(window_ms: int, view: _View, rho: Floats) -> Floats:
    """Sigma of each scale: 1.4826 MAD of z on sampled stretches, each against the other weeks only; at least 1."""
    n, x, rate, edges = view.n, view.x, view.rate, view.edges
    rows = len(n)
    week = WEEK_MS // window_ms
    narrow, wide = NARROW_MS // window_ms, WIDE_MS // window_ms
    spread = n * rate * (1.0 - rate)
    cum = np.zeros((4, rows + 1, n.shape[1]))
    for place, values in enumerate((n, x, spread, spread * np.maximum(n - 1.0, 0.0))):
        np.cumsum(values, axis=0, out=cum[place, 1:])
    sigma: Floats = np.ones((len(SCALES), n.shape[1]))
    if rows <= LONGEST + week - wide:
        return sigma
    ends = np.unique(np.linspace(LONGEST, rows, SAMPLES).astype(np.intp))
    thin = cum[0, -1] / (rows * window_ms / MINUTE_MS) < THIN_PER_MINUTE
    for place, k in enumerate(SCALES):
        total, seen, plain, extra = cum[:, ends] - cum[:, ends - k]
        other = _other_weeks(cum[:2], ends - k, ends, week=week, halves=(narrow, wide), thin=thin)
        expected = total * other[0]
        variance = plain + rho * extra + edges[ends - 1] + edges[np.maximum(ends - k - 1, 0)]
        usable = (expected > 0) & (other[1] > 0) & (variance > 0)
        safe = np.where(usable, variance, 1.0)
        doubt = (1.0 - other[0]) / np.maximum(other[0] * other[1], 1e-12) * expected**2 / safe
        z = deviance_root(seen, total, expected) * np.sqrt(expected * (1.0 - other[0]) / safe)
        z = np.where(usable, z / np.sqrt(1.0 + doubt), np.nan)
        number = usable.sum(axis=0)
        deviation = np.abs(z - _median(z, number))
        found: Floats = np.maximum(1.0, 1.4826 * _median(deviation, number))
        sigma[place] = np.where(number >= MIN_SAMPLES, found, 1.0)
    return sigma


def _other_weeks(
    cum: Floats, begin: Rows, end: Rows, *, week: int, halves: tuple[int, int], thin: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Median rate of the same stretch, widened as the baseline is, in the other weeks; and what it rests on."""
    rows = cum.shape[1] - 1
    rates, weights = [], []
    for shift in range(-WEEKS + 1, WEEKS):
        if shift == 0:
            continue
        sums = []
        for half in halves:
            low, high = np.clip(begin + shift * week - half, 0, rows), np.clip(end + shift * week + half, 0, rows)
            sums.append(cum[:, high] - cum[:, low])
        n, x = np.where(thin, sums[1], sums[0])
        rates.append(np.where(n > 0, x / np.maximum(n, 1.0), np.nan))
        weights.append(n)
    rate, weight = np.stack(rates), np.stack(weights)
    number = (weight > 0).sum(axis=0)
    # Of three weeks, the two others at most: their median is their mean.
    middle = np.nan_to_num(rate).sum(axis=0) / np.maximum(number, 1)
    edge = 0.5 / (weight.sum(axis=0) + 1.0)
    strength = np.where(number > 2, weight.sum(axis=0) / MEDIAN_LOSS, weight.sum(axis=0))  # noqa: PLR2004
    return np.clip(middle, edge, 1.0 - edge), strength


def _median(values: Floats, number: NDArray[np.intp]) -> Floats:
    """Column medians of the ``number`` values that are not NaN."""
    ordered = np.sort(values, axis=0)
    last = len(values) - 1
    columns = np.arange(values.shape[1])
    low = ordered[np.clip((number - 1) // 2, 0, last), columns]
    high = ordered[np.clip(number // 2, 0, last), columns]
    return np.nan_to_num((low + high) / 2.0)
