"""Counts read as arrays are those that reading row by row gives, in the order in which they were first counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.count_history import KEPT
from funnelwatch.sinks.timescale import series_counts
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.series_counts import SeriesCounts
from tests.filling import MINUTE_MS, count_in, named

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from funnelwatch.schemas.count_history import History
    from funnelwatch.schemas.counts import Series
    from funnelwatch.sinks.timescale.database import Database

BEGIN = 1_767_571_200_000
HOURS = 30
SEVERAL = [
    ("A", "iOS", "Safari", "1"),
    ("A", "Android", "Chrome", "1"),
    ("B", "Ωs", "", "2"),
    ("A", "iOS", "Safari", "2"),
]


def filled(database: Database) -> None:
    """Counts of some hours, most windows of most series, in a funnel and in another."""
    rng = np.random.default_rng(7)
    tallies = {}
    for minute in range(HOURS * 60):
        for place, key in enumerate(SEVERAL):
            if minute // 60 % 7 != 5 and rng.random() < 0.8 and (place < 3 or minute > 100):
                shown = int(rng.integers(1, 2**31))
                made = shown // 2
                tallies[BEGIN + minute * MINUTE_MS, *key] = (shown, made, 0, minute, 1, minute + 1, minute // 2)
    count_in(database, tallies, closed_through=BEGIN + HOURS * 60 * MINUTE_MS)
    count_in(database, {(BEGIN, "A", "iOS", "Safari", "1"): (7, 7, 0)}, funnel="other")


def records(histories: list[History]) -> list[tuple[int, Series, tuple[int, ...]]]:
    """Window, series and counts of each record, in its order."""
    return [
        (start, history.series[place], tuple(tally))
        for history in histories
        for start, place, tally in zip(
            history.starts.tolist(), history.places.tolist(), history.tallies.tolist(), strict=True
        )
    ]


def test_chunks_hold_what_the_rows_hold(connect: Callable[[], Database], monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the stretches are that are read at once: the same records, oldest first, series as they came."""
    database = connect()
    filled(database)
    span = (BEGIN + 3 * MINUTE_MS, BEGIN + (HOURS * 60 - 9) * MINUTE_MS)
    rows = list(CountStore(database).read(*span, "sign_up"))
    wanted = {(start, one): (tally[0], tally[1], tally[3]) for start, one, tally in rows}

    for many in (1_000_000, 500, 1):
        monkeypatch.setattr(series_counts, "MANY", many)
        chunks = list(SeriesCounts(database).chunks("sign_up", *span))
        found = records(chunks)
        assert {(start, one): tally for start, one, tally in found} == wanted
        assert len(found) == len(wanted)
        assert [start for start, _, _ in found] == sorted(start for start, _, _ in found)
        first = list(dict.fromkeys(one for chunk in chunks for one in chunk.series))
        assert first[:3] == list(dict.fromkeys(one for _, one, _ in rows))[:3]
        assert first[-1] == named("sign_up", *SEVERAL[3])
        assert (len(chunks) > 20) == (many == 1)


def test_session_counts_are_read_where_they_are_wanted(connect: Callable[[], Database]) -> None:
    """Two more fields in each record, those of the rows; without them nothing says that sessions were counted."""
    database = connect()
    filled(database)
    span = (BEGIN, BEGIN + HOURS * 60 * MINUTE_MS)
    rows = {(start, one): tally for start, one, tally in CountStore(database).read(*span, "sign_up")}
    [chunk, *others] = SeriesCounts(database).chunks("sign_up", *span, with_sessions=True)
    chunks = [chunk, *others]

    found = {(start, one): tuple(tally) for start, one, tally in records(chunks)}
    assert found == {key: tuple(getattr(tally, name) for name in KEPT) for key, tally in rows.items()}
    assert any(tally.sessions for tally in rows.values())
    assert any(one.counts_sessions for one in chunks)
    assert not any(one.counts_sessions for one in SeriesCounts(database).chunks("sign_up", *span))


def test_reading_a_funnel_whole_puts_its_chunks_together(
    connect: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a backtest reads: only what is complete, with a word after each chunk."""
    database = connect()
    filled(database)
    monkeypatch.setattr(series_counts, "MANY", 1)
    told: list[int] = []
    whole = SeriesCounts(database).read(0, BEGIN + 100 * 3_600_000, None, told.append)

    assert [history.funnel for history in whole] == ["sign_up"]
    assert len(told) > 10
    assert told[-1] == len(whole[0].starts) == len(list(CountStore(database).read(0, 2 * BEGIN, "sign_up")))
    assert set(whole[0].series) == {named("sign_up", *key) for key in SEVERAL}
