"""The detector's baseline for the board: the same formula and counts (``funnelwatch.stream.detector.baseline``)."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from funnelwatch.schemas.count_block import Block
from funnelwatch.schemas.counts import CountRow, Series
from funnelwatch.schemas.times import WEEK_MS
from funnelwatch.stream.detector.baseline import RECENT_GAP_MS, RECENT_MS, WEEKS, WIDE_MS, baseline
from funnelwatch.stream.detector.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from funnelwatch.sinks.timescale.rates import Rate

Place = tuple[str, str | None]
"""A step, and an os or None for all of them."""


class Ordinary(NamedTuple):
    """An ordinary rate, and the number of impressions behind it."""

    rate: float
    strength: float


def needed(starts: Sequence[int], every_ms: int) -> Iterator[tuple[int, int]]:
    """The ranges of time ``[from, to)`` whose counts give the ordinary rate of spans that start then, ms."""
    first, last = starts[0], starts[-1]
    for week in range(WEEKS, 0, -1):
        yield first - week * WEEK_MS - WIDE_MS, last - week * WEEK_MS + WIDE_MS + every_ms
    yield first - RECENT_GAP_MS - RECENT_MS - every_ms, last


def expected_rates(rates: Iterable[Rate], starts: Sequence[int], every_ms: int) -> dict[Place, list[Ordinary | None]]:
    """The ordinary rate of each step, and each os of it, for each of the spans; None where nothing is known.

    Args:
        rates: counts by os and by spans of ``every_ms``, of the ranges that are ``needed``.
        starts: of the spans, ms, multiples of ``every_ms``.
        every_ms: their length.
    """
    counts = Counts([(), ("os",)], ["impressions", "window"], every_ms, (WEEKS + 1) * WEEK_MS // every_ms)
    for block in blocks(rates, every_ms):
        counts.append(block)
    if not counts.rows:
        return {}
    found = baseline(counts, "window", np.array([counts.row_of(start) for start in starts], dtype=np.intp))
    return {
        (column.step, column.values[0] if column.values else None): [
            Ordinary(float(found.rate[row, at]), float(found.strength[row, at])) if found.known[row, at] else None
            for row in range(len(starts))
        ]
        for column, at in counts.columns.items()
    }


def blocks(rates: Iterable[Rate], every_ms: int) -> Iterator[Block]:
    """The spans that there are, as runs without a gap, oldest first."""
    by_start: dict[int, dict[Series, Rate]] = defaultdict(dict)
    for rate in rates:
        by_start[rate.start_ms or 0][Series.of("", rate.step, os=rate.os)] = rate
    series = sorted({one for found in by_start.values() for one in found})
    runs: list[list[int]] = []
    for start in sorted(by_start):
        if runs and start == runs[-1][-1] + every_ms:
            runs[-1].append(start)
        else:
            runs.append([start])
    impressions, successes = CountRow._fields.index("impressions"), CountRow._fields.index("successes")
    for run in runs:
        tallies = np.zeros((len(run), len(series), len(CountRow._fields)), dtype=np.int64)
        for at, start in enumerate(run):
            for place, one in enumerate(series):
                if one in by_start[start]:
                    tallies[at, place, impressions] = by_start[start][one].impressions
                    tallies[at, place, successes] = by_start[start][one].successes
        yield Block.dense(run[0], series, tallies)
