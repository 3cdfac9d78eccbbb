"""Estimates noise from history: lag of success, overdispersion, and the spread of z (DETECTION.md, steps 2 and 4).

The formulas; ``estimation.py`` says when they are used, and on what.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.times import MINUTE_MS, WEEK_MS
from funnelwatch.stream.detector.baseline import MEDIAN_LOSS, NARROW_MS, THIN_PER_MINUTE, WEEKS, WIDE_MS
from funnelwatch.stream.detector.counts import SHOWN
from funnelwatch.stream.detector.scan import LONGEST, SCALES, Estimates, deviance_root, due, split

if TYPE_CHECKING:
    from funnelwatch.schemas.arrays import Floats, Indexes
    from funnelwatch.stream.detector.counts import Counts


RHO_MAX = 0.05
RHO_UNKNOWN = 0.006
RHO_USUAL_SD = 0.004
"""Assumed until there is history: about the middle of what real funnels showed, 0.002 to 0.03, on a log scale."""
RHO_APART = 0.002
"""How far the overdispersion of series of one step and level lies apart (standard deviation)."""
MIN_LAG_ROWS = 100
MIN_SAMPLES = 100
SAMPLES = 480
LAG_COLUMNS = 64
"""So many columns of a step are enough to tell its lag."""
LAG_CELLS = 40_000
"""And so many columns x rows, of the newest history: a share of 1 % is then four standard errors."""
ENOUGH_ROWS = 6100
SHARES = (1, 5, 7, 11, 13, 17, 19, 23)
"""Where there are more rows, every so many-th hour tells overdispersion. None divides 24: all hours of the day come."""
STEEP = 25.0
"""A squared deviation counts at most this often its variance, so that an edge of an incident does not rule."""


def unknown(columns: int, lags: int) -> Estimates:
    """The estimate without history: no lag, moderate overdispersion."""
    kernel = np.zeros((lags, columns))
    kernel[0] = 1.0
    return Estimates(np.full(columns, RHO_UNKNOWN), kernel, np.ones((len(SCALES), columns)))


def sampled_hours(counts: Counts, begin: int, end: int) -> Indexes:
    """The rows in [begin, end); where they are many, those of every so many-th hour of event time."""
    rows = np.arange(begin, end)
    share = next((share for share in SHARES if len(rows) <= share * ENOUGH_ROWS), SHARES[-1])
    return rows[(counts.first + rows) * counts.window_ms // (60 * MINUTE_MS) % share == 0] if share > 1 else rows


@dataclass(frozen=True, slots=True)
class View:
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
    """Variance that lagging success adds at both ends of the row."""


def view(  # noqa: PLR0917
    counts: Counts, basis: str, span: tuple[int, int], rows: Indexes, kernel: Floats, part: Indexes
) -> View:
    """Some rows of the columns ``part``, in a history that spans the rows [begin, end)."""
    rate, own = local_rate(counts, basis, span, rows, part)
    n, pairs, edges = np.zeros((3, *rate.shape))
    ends = split(kernel)
    for lag in range(len(kernel) + 1):
        came = kernel[lag] if lag < len(kernel) else 0.0
        open_here = ends[lag] if lag < len(kernel) else 0.0
        open_before = ends[lag - 1] if lag else 0.0
        if not np.any(came) and not np.any(open_here + open_before):
            continue
        shown = counts.sums(SHOWN[basis], rows - lag, rows - lag + 1, part)
        n += shown * came
        pairs += shown * np.maximum(shown - 1.0, 0.0) * came**2
        edges += shown * (open_here + open_before)
    return View(n, pairs, counts.sums(basis, rows, rows + 1, part), rate, own, edges * rate**2)


def local_rate(
    counts: Counts, basis: str, span: tuple[int, int], rows: Indexes, part: Indexes
) -> tuple[Floats, Floats]:
    """The rate of the hour before and after each row, as far as in the span; and the share that the row has in it."""
    half = max(1, WIDE_MS // counts.window_ms)
    low, high = np.maximum(rows - half, span[0]), np.minimum(rows + half + 1, span[1])
    n, x = counts.sums(SHOWN[basis], low, high, part), counts.sums(basis, low, high, part)
    own = np.minimum(counts.sums(SHOWN[basis], rows, rows + 1, part) / np.maximum(n, 1.0), 0.5)
    edge = 0.5 / (n + 1.0)
    return np.clip(x / np.maximum(n, 1.0), edge, 1.0 - edge), own


def overdispersion(view: View) -> tuple[Floats, Floats]:
    """Rho of each column and its variance; infinite where there is nothing to tell it from.

    Least squares of the squared deviation, in units of its variance without overdispersion, on (n - 1): the moment
    equation E[(x - n p)²] = n p (1 - p) (1 + (n - 1) rho), with what lagging successes add in both. A
    row's deviation is too small by the share that the row has in its own local rate.
    """
    n, rate = view.n, view.rate
    plain = n * rate * (1.0 - rate) + view.edges
    usable = (n > 1.0) & (plain > 0)
    safe = np.where(usable, plain, 1.0)
    ratio = np.where(usable, np.minimum((view.x - n * rate) ** 2 / safe / (1.0 - view.own), STEEP) - 1.0, 0.0)
    gain = np.where(usable, view.pairs * rate * (1.0 - rate) / safe, 0.0)
    information = np.maximum((gain**2).sum(axis=0), 1e-12)
    slope: Floats = (gain * ratio).sum(axis=0) / information
    noise = (gain**2 * (ratio - gain * np.clip(slope, 0.0, RHO_MAX)) ** 2).sum(axis=0)
    enough = usable.sum(axis=0) >= MIN_LAG_ROWS
    return np.where(enough, slope, 0.0), np.where(enough, noise / information**2, np.inf)


def share_out(slope: Floats, doubt: Floats, groups: Indexes) -> Floats:
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


def estimate_lags(counts: Counts, basis: str, first: int, end: int, kernel: Floats) -> None:
    """Fill in the lag kernel of every column; columns of one step share it, lag being a matter of the step."""
    steps: dict[str, list[int]] = {}
    for column, place in islice(counts.columns.items(), kernel.shape[1]):
        steps.setdefault(column.step, []).append(place)
    for places in steps.values():
        part = np.array(places[:LAG_COLUMNS])
        begin = max(first, end - LAG_CELLS // len(part))
        n = counts.each(SHOWN[basis], begin, end, part)
        x = counts.each(basis, begin, end, part)
        if (n > 0).sum() >= MIN_LAG_ROWS:
            rate, _ = local_rate(counts, basis, (begin, end), np.arange(begin, end), part)
            kernel[:, places] = lag_kernel(n, x, rate, len(kernel))[:, None]


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
    columns = values.shape[1]
    cum = np.empty((len(values) + 2 * half + 1, columns))
    cum[: half + 1] = 0.0
    np.cumsum(values, axis=0, out=cum[half + 1 : half + 1 + len(values)])
    cum[half + 1 + len(values) :] = cum[half + len(values)]
    rows = np.arange(len(values))
    number = np.minimum(rows + half + 1, len(values)) - np.maximum(rows - half, 0)
    result: Floats = (cum[2 * half + 1 :] - cum[: len(values)]) / number[:, None]
    return result


def spread(  # noqa: PLR0917
    counts: Counts, basis: str, span: tuple[int, int], part: Indexes, kernel: Floats, rho: Floats
) -> Floats:
    """Sigma of each scale: 1.4826 MAD of z on sampled spans, each against the other weeks only; at least 1."""
    begin, end = span
    week, wide = WEEK_MS // counts.window_ms, WIDE_MS // counts.window_ms
    sigma: Floats = np.ones((len(SCALES), len(part)))
    if end - begin <= LONGEST + week - wide:
        return sigma
    shown = counts.each(SHOWN[basis], begin - len(kernel) + 1, end, part)
    n = due(shown, kernel)
    pairs = np.zeros((end - begin + 1, len(part)))
    np.cumsum(n * np.maximum(n - 1.0, 0.0), axis=0, out=pairs[1:])
    total = np.zeros_like(pairs)
    np.cumsum(n, axis=0, out=total[1:])
    edges = due(shown, split(kernel))
    ends = begin + np.unique(np.linspace(LONGEST, end - begin, SAMPLES).astype(np.intp))
    thin = total[-1] / ((end - begin) * counts.window_ms / MINUTE_MS) < THIN_PER_MINUTE
    lengths = np.repeat(SCALES, len(ends))
    ends = np.tile(ends, len(SCALES))
    here, before = ends - begin, ends - begin - lengths
    for some, half in ((thin, wide), (~thin, NARROW_MS // counts.window_ms)):
        mine = np.flatnonzero(some)
        if not mine.size:
            continue
        due_here = total[here][:, mine] - total[before][:, mine]
        seen = counts.sums(basis, ends - lengths, ends, part[mine])
        rate, strength = _other_weeks(counts, basis, span, part[mine], begin=ends - lengths - half, end=ends + half)
        expected = due_here * rate
        clumped = (pairs[here] - pairs[before])[:, mine] * rate * (1.0 - rate)
        open_ends = (edges[here - 1] + edges[np.maximum(before - 1, 0)])[:, mine] * rate**2
        variance = expected * (1.0 - rate) + rho[mine] * clumped + open_ends
        sigma[:, mine] = _deviation(seen, due_here, expected, rate, variance, strength)
    return sigma


def _deviation(  # noqa: PLR0917
    seen: Floats, total: Floats, expected: Floats, rate: Floats, variance: Floats, strength: Floats
) -> Floats:
    """1.4826 MAD of z of each scale and column, at least 1; samples are those of one scale after the other."""
    usable = (expected > 0) & (strength > 0) & (variance > 0)
    safe = np.where(usable, variance, 1.0)
    doubt = (1.0 - rate) / np.maximum(rate * strength, 1e-12) * expected**2 / safe
    z = deviance_root(seen, total, expected) * np.sqrt(expected * (1.0 - rate) / safe / (1.0 + doubt))
    shape = (len(SCALES), -1, z.shape[1])
    z = np.where(usable, z, np.nan).reshape(shape)
    number = usable.reshape(shape).sum(axis=1)
    found: Floats = np.maximum(1.0, 1.4826 * _median(np.abs(z - _median(z, number)[:, None]), number))
    return np.where(number >= MIN_SAMPLES, found, 1.0)


def _other_weeks(
    counts: Counts, basis: str, span: tuple[int, int], part: Indexes, *, begin: Indexes, end: Indexes
) -> tuple[Floats, Floats]:
    """Rate of the same spans in the other weeks, as far as they are in the span; and what it rests on.

    Of three weeks there are two others at most, and their median is their mean.
    """
    week = WEEK_MS // counts.window_ms
    rates, weights, number = np.zeros((3, len(end), len(part)))
    for shift in range(-WEEKS + 1, WEEKS):
        low, high = np.maximum(begin + shift * week, span[0]), np.minimum(end + shift * week, span[1])
        there = np.flatnonzero(high > low) if shift else np.zeros(0, dtype=np.intp)
        if there.size:
            n = counts.sums(SHOWN[basis], low[there], high[there], part)
            rates[there] += counts.sums(basis, low[there], high[there], part) / np.maximum(n, 1.0)
            weights[there] += n
            number[there] += n > 0
    edge = 0.5 / (weights + 1.0)
    strength = np.where(number > 2, weights / MEDIAN_LOSS, weights)  # noqa: PLR2004
    return np.clip(rates / np.maximum(number, 1.0), edge, 1.0 - edge), strength


def _median(values: Floats, number: Indexes) -> Floats:
    """Medians along the middle axis of the ``number`` values that are not NaN."""
    ordered = np.sort(np.ascontiguousarray(values.transpose(0, 2, 1)), axis=-1)
    last = ordered.shape[-1] - 1
    low = np.take_along_axis(ordered, np.clip((number - 1) // 2, 0, last)[..., None], axis=-1)
    high = np.take_along_axis(ordered, np.clip(number // 2, 0, last)[..., None], axis=-1)
    return np.nan_to_num((low + high)[..., 0] / 2.0)
