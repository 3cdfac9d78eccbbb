"""Counts as columns against the same counts by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.histogram import SLOTS
from funnelwatch.schemas.window_counts import WIDTH, WindowCounts
from funnelwatch.sinks.timescale.counts import merged

if TYPE_CHECKING:
    from funnelwatch.schemas.counts import CountKey, Counts, Durations

keys = st.builds(
    lambda window, funnel, step, os, country: (window, Series.of(funnel, step, os=os, country=country)),
    st.sampled_from([-60_000, 0, 60_000, 1_794_996_000_000]),
    st.sampled_from(["f", "g"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["iOS", "Web"]),
    st.sampled_from(["", "DE"]),
)
Part = tuple["Counts", "dict[tuple[CountKey, int], int]"]
"""Counts, and numbers by key and slot."""

counts = st.dictionaries(keys, st.lists(st.integers(-5, 2**40), min_size=WIDTH, max_size=WIDTH), max_size=8)
slots = st.integers(0, SLOTS - 1)
parts = st.tuples(counts, st.dictionaries(st.tuples(keys, slots), st.integers(1, 9), max_size=8))


def columns(part: Part) -> WindowCounts:
    """A part as columns."""
    durations: Durations = {(*key, slot): [number] for (key, slot), number in part[1].items()}
    return WindowCounts.of(part[0], durations)


def counted(found: Counts) -> Counts:
    """Without rows of durations only, which count nothing."""
    return {key: numbers for key, numbers in found.items() if any(numbers)}


@given(st.lists(parts, max_size=4))
def test_columns_that_are_joined_are_the_counts_that_are_merged(some: list[Part]) -> None:
    """Each part has numbers of its own for its series; rows of the sum are sorted, each once."""
    names = sorted({key[1] for part in some for key in columns(part).by_name()})
    numbered = []
    for part in some:
        one = columns(part)
        used = int(one.series.max()) + 1 if len(one) else 0
        numbers = np.array([names.index(one.names[number]) for number in range(used)], np.int64)
        numbered.append(one.numbered(names, numbers))
    found = WindowCounts.joined(numbered)
    assert counted(found.by_name()) == counted(merged(part[0] for part in some))
    assert found.durations() == merged(columns(part).durations() for part in some)
    rows = list(zip(found.windows.tolist(), found.series.tolist(), strict=True))
    assert rows == sorted(set(rows))


@given(parts, st.integers(0, 9), st.integers(0, 9))
def test_selected_rows_keep_their_durations(part: Part, start: int, length: int) -> None:
    """A selection has the counts and durations of its rows, and no others."""
    whole = columns(part)
    some = whole.selected(slice(start, start + length))
    expected = list(whole.by_name().items())[start : start + length]
    assert list(some.by_name().items()) == expected
    kept = {key for key, _ in expected}
    assert some.durations() == {key: n for key, n in whole.durations().items() if key[:-1] in kept}


@given(parts)
def test_values_are_added_up_by_funnel_and_window(part: Part) -> None:
    """As adding up by name does."""
    whole = columns(part)
    expected: dict[tuple[str, int], int] = {}
    for key, numbers in whole.by_name().items():
        if numbers[0] > 0:
            expected[key[1].funnel, key[0]] = expected.get((key[1].funnel, key[0]), 0) + sum(numbers[:3])
    assert whole.by_window(whole.events, whole.counts[:, 0] > 0) == expected
