"""The counts from which a loss is traced: any cut into blocks gives the sums of an independent group-by."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelwatch.schemas.count_block import FIELDS, Block
from funnelwatch.schemas.counts import CountRow, Series
from funnelwatch.schemas.times import MINUTE_MS
from funnelwatch.stream.detector.drill import ROW_MS, Drill

if TYPE_CHECKING:
    from funnelwatch.stream.detector.counts import Column, Counts

FIRST = 1_700_000_000_000 // ROW_MS * ROW_MS + 7 * MINUTE_MS
SERIES = [Series.of("f", step, os=os, country=country) for step in "AB" for os in "xy" for country in ("", "DE", "AT")]
LEVELS = [("country",), ("os", "country")]

counts = st.dictionaries(st.sampled_from(SERIES), st.integers(0, 50), max_size=5)
windows = st.lists(st.tuples(st.integers(1, 4), counts), min_size=1, max_size=60)
"""Windows, each so many minutes after the one before, with its impressions by series."""


def block(start: int, tallies: dict[Series, int]) -> Block:
    """One window; every second impression succeeds."""
    values = np.array([[CountRow(n, n // 2, 0, n // 2) for n in tallies.values()]], np.int64).reshape(1, -1, FIELDS)
    return Block.dense(start, list(tallies), values)


def by_hand(found: dict[int, dict[Series, int]], span_ms: int) -> dict[tuple[Column, int], int]:
    """Impressions by column and start of the span."""
    sums: Counter[tuple[Column, int]] = Counter()
    for start, tallies in found.items():
        for series, number in tallies.items():
            for level in LEVELS:
                values = tuple(map(series.value, level))
                sums[level, series.step, values, start - start % span_ms] += number
    return {key: number for key, number in sums.items() if number}


def shown(kept: Counts) -> dict[tuple[Column, int], int]:
    """The same of what is kept."""
    found: dict[tuple[Column, int], int] = defaultdict(int)
    for column, place in kept.columns.items():
        for row, number in enumerate(kept.each("impressions", 0, kept.rows, np.array([place]))[:, 0].tolist()):
            if number:
                found[*column, kept.start_of(row)] = int(number)
    return found


@settings(max_examples=80, deadline=None)
@given(windows, st.lists(st.tuples(st.integers(0, 59), counts), max_size=4))
def test_rows_and_windows_are_the_sums_of_a_group_by_after_revisions_too(
    given_windows: list[tuple[int, dict[Series, int]]], revisions: list[tuple[int, dict[Series, int]]]
) -> None:
    """Windows are left out, rows begin in the middle, series come late, and a revision may have new series."""
    drill = Drill(LEVELS, ["impressions", "window"], MINUTE_MS, 21 * 24 * 60 * MINUTE_MS, 300)
    found: dict[int, dict[Series, int]] = {}
    start = FIRST
    for gap, tallies in given_windows:
        start += gap * MINUTE_MS
        found[start] = tallies
        drill.append(block(start, tallies))
    for at, tallies in revisions:
        if at < len(found):
            changed = list(found)[at]
            found[changed] = tallies
            drill.revise(block(changed, tallies))
    assert shown(drill.windows) == by_hand(found, MINUTE_MS)
    assert shown(drill.rows) == by_hand(found, ROW_MS)


def test_a_block_of_many_windows_gives_the_same_as_its_windows_one_by_one() -> None:
    """History comes in blocks that begin and end anywhere in a row."""
    chance = np.random.default_rng(4)
    tallies = chance.integers(0, 9, (100, len(SERIES), FIELDS))
    together, apart = (Drill(LEVELS, ["impressions"], MINUTE_MS, 10**9, 300) for _ in range(2))
    whole = Block.dense(FIRST, SERIES, tallies)
    for begin, end in ((0, 3), (3, 41), (41, 100)):
        together.append(whole.part(begin, end, MINUTE_MS))
    for at in range(100):
        apart.append(whole.part(at, at + 1, MINUTE_MS))
    assert shown(together.rows) == shown(apart.rows)
    assert shown(together.windows) == shown(apart.windows)
    assert together.rows.rows == 8


def test_a_revision_older_than_the_windows_that_are_kept_changes_nothing() -> None:
    """What it was before is not known any more."""
    drill = Drill(LEVELS, ["impressions"], MINUTE_MS, 21 * 24 * 60 * MINUTE_MS, 10)
    drill.append(block(FIRST, {SERIES[1]: 5}))
    drill.append(block(FIRST + 30 * 60 * MINUTE_MS, {SERIES[1]: 5}))
    for at in range(1, 1_200):
        drill.append(block(FIRST + (30 * 60 + at) * MINUTE_MS, {}))
    before = shown(drill.rows)
    drill.revise(block(FIRST, {SERIES[1]: 50}))
    assert shown(drill.rows) == before
