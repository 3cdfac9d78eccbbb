"""Time to convert: histograms of durations and their quantiles, on plain PostgreSQL and on TimescaleDB."""

from __future__ import annotations

import random
import time
from math import ceil
from typing import TYPE_CHECKING

import pytest

from funnelwatch.schemas.counts import PartitionCounts, Series
from funnelwatch.schemas.histogram import bounds
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.base import MisplacedError
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.retention import Retention, drop_expired
from tests.filling import MINUTE_MS, count_in, keep_for
from tests.integration.test_rollups import WIDTHS
from tests.integration.test_views import DAY_MS, SMS, rows
from tests.ledger import agree, begin_anew
from tests.traffic import row_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from funnelwatch.sinks.timescale.database import Database

NOW = int(time.time() * 1000)
TODAY = NOW - NOW % DAY_MS
VIEWS = {"windows": "time_to_convert", **{level: f"time_to_convert_{level}" for level in WIDTHS}}
Took = dict[tuple[int, str, str, str, str], list[int]]


@pytest.fixture(autouse=True)
def _anew(either: Database) -> None:
    """Each test counts in an empty database."""
    begin_anew(either)


def took(window: int, *values: int, os: str = "iOS") -> Took:
    """Successes of one series in one window."""
    return {(window, SMS, os, "", "1.0"): list(values)}


def count_durations(database: Database, durations: Took, funnel: str) -> None:
    """Count successes that took so long."""
    tallies = {key: (len(values), len(values), 0) for key, values in durations.items()}
    count_in(database, tallies, funnel=funnel, durations=durations)


def slots_of(database: Database, funnel: str, level: str) -> dict[tuple[int, str, int], int]:
    """Window, os and the lower border of a slot to what it counts, as a level has it."""
    found = {}
    for row in rows(database, f"SELECT * FROM {VIEWS[level]} WHERE funnel = %s", funnel):
        window = int(row["window_start"].timestamp() * 1000)
        assert row["conversions"] == sum(number or 0 for number in row["slots"])
        for slot, number in enumerate(row["slots"]):
            if number:
                found[window, row["os"], bounds(slot)[0]] = number
    return found


def by_hand(*parts: Mapping[tuple[int, str, str, str, str], Sequence[int]], level: str) -> dict[object, int]:
    """The same, counted here: the values must be lower borders of slots."""
    total: dict[object, int] = {}
    width = WIDTHS.get(level, MINUTE_MS)
    for part in parts:
        for (window, _, os, _, _), values in part.items():
            for value in values:
                key = window - window % width, os, value
                total[key] = total.get(key, 0) + 1
    return total


def test_each_level_has_the_histograms_of_its_windows_also_after_late_events(either: Database, funnel: str) -> None:
    """What comes for buckets that are materialized already is added to them; what is being counted is there at once."""
    window = NOW - NOW % DAY_MS - 20 * DAY_MS
    early = took(window, 0, 5, 96, 96, 7_168) | took(window + 4 * MINUTE_MS, 96) | took(window + 6 * MINUTE_MS, 2_048)
    count_durations(either, early, funnel)
    materialize(either, NOW)
    late = took(window, 96, 1_048_576) | took(window + 61 * MINUTE_MS, 96, os="Android")
    fresh = took(NOW - NOW % MINUTE_MS, 10, 96)
    for more in (late, fresh):
        count_durations(either, more, funnel)
    for _ in range(2):
        for level in VIEWS:
            assert slots_of(either, funnel, level) == by_hand(early, late, fresh, level=level)
        agree(either)
        materialize(either, NOW)


@pytest.mark.parametrize("seed", range(3))
def test_quantiles_are_at_most_an_eighth_off(either: Database, funnel: str, seed: int) -> None:
    """Against the value of that rank among all of them, whatever was added to what."""
    chance = random.Random(seed)
    window = TODAY - 3 * DAY_MS
    values = [round(chance.lognormvariate(9, 1.5)) for _ in range(500)] + [3, 2]
    for part in (values[:100], values[100:101], values[101:]):
        count_durations(either, took(window, *part), funnel)
    materialize(either, NOW)
    values.sort()
    for level in ("", "_5m", "_1h", "_1d"):
        [row] = rows(either, f"SELECT * FROM time_to_convert{level} WHERE funnel = %s", funnel)
        assert row["conversions"] == len(values)
        for q, name in ((0.5, "p50_ms"), (0.9, "p90_ms"), (0.99, "p99_ms")):
            exact = values[ceil(q * len(values)) - 1]
            assert abs(row[name] - exact) <= exact / 8


def test_small_durations_are_exact_and_none_has_no_quantile(either: Database) -> None:
    """Slots below 8 ms hold one value each; an empty histogram has no quantile, and neither has a missing one."""
    slots = "ARRAY[NULL, 0, NULL, 3, NULL, NULL, NULL, 1]::bigint[]"
    [row] = rows(
        either,
        f"SELECT duration_quantile(0, {slots}) AS least, duration_quantile(0.75, {slots}) AS of_three_quarters, "
        f"duration_quantile(1, {slots}) AS most, duration_quantile(0.5, NULL) AS missing, "
        "duration_quantile(0.5, ARRAY[0, NULL]::bigint[]) AS empty",
    )
    assert tuple(row.values()) == (3.0, 3.0, 7.0, None, None)


def test_histograms_outlive_the_windows_that_they_are_made_of(either: Database, funnel: str) -> None:
    """Windows of 40 days ago are dropped, hours of 200 days ago too; the coarser levels still have the durations."""
    old, older = took(TODAY - 40 * DAY_MS, 96, 96), took(TODAY - 200 * DAY_MS, 2_048)
    recent = took(TODAY - 5 * DAY_MS, 10)
    count_durations(either, old | older | recent, funnel)
    keep_for(either, Retention(windows=30, five_minutes=60, hours=100, days=0))
    for _ in range(2):
        materialize(either, NOW)
        drop_expired(either, NOW)
        assert slots_of(either, funnel, "windows") == by_hand(recent, level="windows")
        assert slots_of(either, funnel, "5m") == by_hand(old, recent, level="5m")
        assert slots_of(either, funnel, "1h") == by_hand(old, recent, level="1h")
        assert slots_of(either, funnel, "1d") == by_hand(old, older, recent, level="1d")


def test_a_flush_writes_durations_once_and_with_its_counts_or_not_at_all(either: Database, funnel: str) -> None:
    """The same flush again is skipped whole, and one that overlaps what is counted writes nothing."""
    store = CountStore(either)
    key = (TODAY, Series.of(funnel, SMS, os="iOS", app_version="1.0"))
    store.start(funnel, "id", {0: 0})
    batch = PartitionCounts(0, 0, 2, WindowCounts.of({key: row_of(0, 2, 0, 2)}, {(*key, 24): [1], (*key, 3): [1]}))
    for _ in range(2):
        store.flush(funnel, "id", [batch])
    with pytest.raises(MisplacedError):
        store.flush(funnel, "id", [PartitionCounts(0, 1, 3, batch.counts)])
    assert store.durations(TODAY, TODAY + 1, funnel) == batch.counts.durations()
