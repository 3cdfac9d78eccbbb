"""Totals since the beginning: each flush adds to them once, and nothing takes anything away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from funnelwatch.schemas.counts import PartitionCounts, Series
from funnelwatch.schemas.metric_counts import MetricSeries, PartitionMetrics
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.metric_counts import MetricStore
from funnelwatch.sinks.timescale.repairs import RepairStore
from funnelwatch.sinks.timescale.retention import Retention, drop_expired
from funnelwatch.sinks.timescale.totals import TotalsStore
from tests.filling import MINUTE_MS, count_in, keep_for
from tests.integration.test_views import DAY_MS
from tests.traffic import now_ms, row_of, slot_of

if TYPE_CHECKING:
    from funnelwatch.sinks.timescale.database import Database

SMS = "VERIFY_SMS_CODE"


def totals(database: Database, funnel: str) -> list[tuple[str, int, int, int, int, int]]:
    """os, events and sessions of a funnel, in the order in which the series came."""
    mine = [row for row in TotalsStore(database).read(300, ["os", "country"]).series if row["funnel"] == funnel]
    names = ("impressions", "successes", "failures", "sessions", "session_successes")
    return [(row["labels"][0], *(row[name] for name in names)) for row in mine]


def buckets(*durations: int) -> list[int]:
    """How many of these durations are in each bucket: below 128 ms, below 256 ms, and so on."""
    return [sum(max(0, min(15, one.bit_length() - 7)) == bucket for one in durations) for bucket in range(16)]


def test_totals_only_grow_through_retention_and_repairs(either: Database, funnel: str) -> None:
    """Windows and versions are added up; what is dropped or corrected downwards stays counted."""
    today = now_ms() - now_ms() % DAY_MS
    count_in(
        either,
        {
            (today - 40 * DAY_MS, SMS, "iOS", "", "1"): (10, 5, 1, 5, 1, 9, 5, 9, 5),
            (today, SMS, "iOS", "", "2"): (20, 10, 0),
            (today, SMS, "Android", "", "1"): (7, 0, 7, 3, 3),
        },
        funnel=funnel,
        durations={(today, SMS, "iOS", "", "2"): [3, 200, 200], (today, SMS, "Android", "", "1"): [1]},
    )
    before = totals(either, funnel)
    assert sorted(before) == [("Android", 7, 0, 7, 0, 0), ("iOS", 30, 15, 1, 9, 5)]
    keep_for(either, Retention(windows=30))
    materialize(either, now_ms())
    drop_expired(either, now_ms())
    assert list(CountStore(either).read(0, today, funnel)) == []
    keep_for(either, Retention())
    snapshot = RepairStore(either).snapshot("filled", today, today + DAY_MS)
    key = (today, Series.of(funnel, SMS, os="iOS", app_version="2"))
    RepairStore(either).correct("filled", (today, today + DAY_MS), snapshot, {key: row_of(-5, -5, 0, -5)}, {})
    assert totals(either, funnel) == before
    took = TotalsStore(either).read(300, ["os", "country"]).durations
    mine = [(row["labels"][0], row["buckets"], row["total_ms"]) for row in took if row["funnel"] == funnel]
    # 200 ms is in the slot [192, 224), whose middle is 207.
    assert mine == [("Android", buckets(1), 1), ("iOS", buckets(3, 200, 200), 3 + 2 * 207)]


def test_a_flush_that_is_repeated_is_in_the_totals_once(either: Database, funnel: str) -> None:
    """As in the counts: it is the same transaction."""
    store = CountStore(either)
    store.start(funnel, "id", {0: 0})
    counts = {(MINUTE_MS, Series.of(funnel, SMS, os="iOS")): row_of(3, 2, 1, 2, 1, 2, 1)}
    batch = PartitionCounts(partition=0, start_offset=0, next_offset=6, counts=WindowCounts.of(counts), accepted=6)
    for _ in range(2):
        store.flush(funnel, "id", [batch])
    assert totals(either, funnel) == [("iOS", 3, 2, 1, 2, 1)]


def test_the_newest_closed_windows_make_the_rate(either: Database, funnel: str) -> None:
    """Neither what is older than asked for nor what is still open is in it."""
    end = now_ms() // MINUTE_MS * MINUTE_MS
    tallies = {
        (end - 10 * MINUTE_MS, SMS, "iOS", "", "1"): (100, 0, 0),
        (end - 2 * MINUTE_MS, SMS, "iOS", "", "1"): (10, 4, 0),
        (end - MINUTE_MS, SMS, "iOS", "", "2"): (10, 5, 0),
        (end, SMS, "iOS", "", "2"): (100, 0, 0),
    }
    count_in(either, tallies, funnel=funnel, closed_through=end)
    latest = TotalsStore(either).read(300, ["os", "country"]).latest
    mine = [(row["step"], row["impressions"], row["successes"]) for row in latest if row["funnel"] == funnel]
    assert mine == [(SMS, 20, 9)]
    assert {row["closed_through_ms"] for row in latest if row["funnel"] == funnel} == {end}


def test_counters_and_timers_are_in_the_totals_once(either: Database, funnel: str) -> None:
    """A flush that is repeated adds nothing; windows that are no longer kept stay counted."""
    store, topic = MetricStore(either), f"{funnel}.metrics"
    CountStore(either).start(topic, "id", {0: 0})
    wanted = [MetricSeries.of(f"{funnel}_{kind}", kind, {"os": "iOS"}) for kind in ("COUNTER", "TIMER")]
    numbers = [number for number in store.admit(wanted, 10_000, 10).values() if isinstance(number, int)]
    counter, timer = numbers
    batch = PartitionMetrics(
        PartitionCounts(partition=0, start_offset=0, next_offset=5, counts=WindowCounts()),
        {(0, counter): [2, 7], (MINUTE_MS, counter): [1, 1], (MINUTE_MS, timer): [2, 1_300]},
        {(MINUTE_MS, timer, slot_of(500)): [1], (MINUTE_MS, timer, slot_of(800)): [1]},
    )
    for _ in range(2):
        store.flush(topic, "id", [batch])
    either.query("drop_metrics", {"before": datetime.now(UTC)})
    rows = [row for row in TotalsStore(either).read(300, ["os", "country"]).metrics if row["series"] in numbers]
    assert [(row["kind"], row["samples"], row["total"], row["buckets"], row["dimensions"]) for row in rows] == [
        ("COUNTER", 3, 8, buckets(), {"os": "iOS"}),
        ("TIMER", 2, 1_300, buckets(500, 800), {"os": "iOS"}),
    ]
