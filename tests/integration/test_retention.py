"""Counts are dropped by the day once their retention has stood for a while; on both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.migrations import has_timescale
from funnelwatch.sinks.timescale.retention import REGRET_MS, Retention, drop_expired, set_retention
from tests.filling import count_in, keep_for
from tests.integration.test_dropped_counts import KEPT_FROM, SHORT, dropped, windows
from tests.integration.test_rollups import NOW, TODAY, counted
from tests.integration.test_views import DAY_MS
from tests.ledger import agree, begin_anew, rows

if TYPE_CHECKING:
    from funnelwatch.sinks.timescale.database import Database

FOR_EVER = Retention()


@pytest.fixture(autouse=True)
def _anew(either: Database) -> None:
    """Nothing is counted and nothing was ever dropped."""
    begin_anew(either)


def set_ms(database: Database) -> int:
    """When the retention of windows was set, ms."""
    since = "SELECT (extract(epoch FROM set_at) * 1000)::bigint AS set_ms FROM retention WHERE level = 'windows'"
    return int(rows(database, since)[0]["set_ms"])


def count_days(database: Database, funnel: str, *ago: int) -> None:
    """Count in one window of each day so many days ago, and materialize it."""
    counts = {key: tally for days in ago for key, tally in counted(TODAY - days * DAY_MS).items()}
    count_in(database, counts, funnel=funnel)
    materialize(database, NOW)


def test_the_number_of_dropped_days_is_returned(either: Database, funnel: str) -> None:
    """Days that have counts; with TimescaleDB those of the chunks, which are longer for rollups."""
    count_days(either, funnel, 35, 36, 50, 5)
    keep_for(either, Retention(windows=30))
    assert drop_expired(either, NOW) == 3
    assert windows(either) == [TODAY - 5 * DAY_MS]
    assert drop_expired(either, NOW) == 0
    keep_for(either, Retention(windows=30, five_minutes=32))
    days = drop_expired(either, NOW)
    with either.transaction() as cursor:
        # A chunk of 5 minutes spans a week. The newest may reach into what is kept.
        assert (days in (7, 14)) if has_timescale(cursor) else days == 3
    assert drop_expired(either, NOW) == 0


def test_days_of_counters_are_days_too(either: Database, funnel: str) -> None:
    """They go with the windows; a day that has both is one."""
    count_days(either, funnel, 35)
    with either.transaction() as cursor:
        for ago in (35, 40):
            cursor.execute(
                "INSERT INTO metric_counts (window_start, series, samples, total) "
                "VALUES (to_timestamp(%s / 1000.0), 1, 1, 1)",
                [TODAY - ago * DAY_MS],
            )
    keep_for(either, Retention(windows=30))
    assert drop_expired(either, NOW) == 2
    assert rows(either, "SELECT window_start FROM metric_counts") == []


def test_a_setting_of_this_moment_drops_nothing_yet(either: Database, funnel: str) -> None:
    """It drops ten minutes after it was set, not a moment before."""
    count_days(either, funnel, 40)
    set_retention(either, SHORT)
    at = set_ms(either)
    assert drop_expired(either, at + REGRET_MS - 1) == 0
    assert (windows(either), dropped(either)["windows"]) == ([TODAY - 40 * DAY_MS], None)
    assert drop_expired(either, at + REGRET_MS) == 1
    assert windows(either) == []


def test_a_mistyped_retention_that_is_taken_back_has_dropped_nothing(either: Database, funnel: str) -> None:
    """The next setting starts the ten minutes anew; a worker that sets the same again does not."""
    count_days(either, funnel, 5, 40)
    set_retention(either, Retention(3, 3, 3, 0))
    mistyped = set_ms(either)
    drop_expired(either, mistyped + REGRET_MS - 1)
    keep_for(either, SHORT)
    kept_since = set_ms(either)
    assert set_retention(either, SHORT) == []
    assert set_ms(either) == kept_since
    assert drop_expired(either, NOW) == 1
    assert (windows(either), dropped(either)["windows"]) == ([TODAY - 5 * DAY_MS], KEPT_FROM)
    agree(either)
    set_retention(either, FOR_EVER)
    assert drop_expired(either, NOW + 2 * REGRET_MS) == 0
