"""What the exporter shows: totals that never fall, a bounded number of series, buckets with exact borders."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from funnelwatch.schemas.freshness import FunnelSeen, WorkerSeen
from funnelwatch.schemas.histogram import BUCKETS
from funnelwatch.sinks.errors import is_transient
from funnelwatch.sinks.exporter.collector import FunnelCollector
from funnelwatch.sinks.exporter.folding import Folding
from funnelwatch.sinks.timescale.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable


Shown = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def total(step: str, os: str, *counts: int, funnel: str = "f") -> dict[str, Any]:
    """A row of totals."""
    names = ("impressions", "successes", "failures", "sessions", "session_successes")
    numbers = (*counts, *(0,) * (len(names) - len(counts)))
    return {"funnel": funnel, "step": step, "labels": [os, ""], **dict(zip(names, numbers, strict=True))}


def buckets(counts: dict[int, int]) -> list[int]:
    """Numbers by bucket, all of them."""
    return [counts.get(bucket, 0) for bucket in range(BUCKETS)]


def took(os: str, counts: dict[int, int], total_ms: int) -> dict[str, Any]:
    """A row of totals of durations."""
    return {"funnel": "f", "step": "A", "labels": [os], "buckets": buckets(counts), "total_ms": total_ms}


def latest(step: str | None, impressions: int | None, successes: int | None) -> dict[str, Any]:
    """A row of the newest counts."""
    named = {"funnel": "f", "step": step, "labels": ["iOS", ""] if step else ["", ""]}
    return {**named, "closed_through_ms": 90_000, "impressions": impressions, "successes": successes}


def exporting(read: Callable[[], Totals], max_series: int = 100) -> Callable[[], Shown]:
    """A function that scrapes."""
    registry = CollectorRegistry()
    registry.register(FunnelCollector(read, is_transient, max_series))

    def scrape() -> Shown:
        families = text_string_to_metric_families(generate_latest(registry).decode())
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}

    return scrape


def of(shown: Shown, name: str, **labels: str) -> list[float]:
    """The samples of a name that have these labels."""
    return [value for (found, has), value in shown.items() if found == name and labels.items() <= dict(has).items()]


def test_counts_durations_and_rates_are_shown() -> None:
    """A bucket's border is its largest value; rows with the same labels are added up."""
    rows = [took("iOS", {0: 2, 1: 3}, 606), took("iOS", {BUCKETS - 1: 1}, 10**9)]
    newest = [latest("A", 200, 150), latest("B", 0, 1)]
    shown = exporting(lambda: Totals([total("A", "iOS", 10, 7, 2, 6, 5)], rows, newest))()
    labels = {"funnel": "f", "step": "A", "os": "iOS", "browser": ""}
    names = ("impressions", "successes", "failures", "sessions", "session_successes")
    found = [of(shown, f"funnelwatch_funnel_{name}_total", **labels) for name in names]
    assert found == [[10], [7], [2], [6], [5]]
    borders = "0.127", "0.255", "2097.15", "+Inf"
    found = [of(shown, "funnelwatch_funnel_duration_seconds_bucket", le=le) for le in borders]
    assert found == [[2], [5], [5], [6]]
    assert of(shown, "funnelwatch_funnel_duration_seconds_count") == [6]
    assert of(shown, "funnelwatch_funnel_duration_seconds_sum") == [(10**9 + 606) / 1000]
    assert of(shown, "funnelwatch_funnel_conversion_rate") == [0.75]
    assert of(shown, "funnelwatch_funnel_closed_through_seconds") == [90]
    assert of(shown, "funnelwatch_exporter_up") == [1]


def test_figures_that_are_not_current_are_shown_as_stale_with_the_reason() -> None:
    """Fresh, old and unevaluated funnels; live, silent and ill workers; an exporter that sees none shows 0 workers."""
    now = 1_795_716_900_000
    funnels = [
        FunnelSeen("fresh", now, closed_through_ms=now - 60_000),
        FunnelSeen("old", now, closed_through_ms=now - 720_000),
        FunnelSeen("unevaluated", now, closed_through_ms=now - 60_000, unevaluated_since_ms=now - 150_000),
    ]
    well = WorkerSeen("a", 7, "1", 4, None, ended=False, seen_ms=now, age_s=1)
    shown = exporting(lambda: Totals(workers=[well, replace(well, age_s=99)], funnels=funnels))()
    stale = {labels: value for (name, labels), value in shown.items() if name == "funnelwatch_funnel_stale"}
    assert stale == {
        (("funnel", "fresh"), ("reason", "fresh")): 0,
        (("funnel", "old"), ("reason", "not_closing")): 1,
        (("funnel", "unevaluated"), ("reason", "not_evaluated")): 1,
    }
    assert of(shown, "funnelwatch_funnel_unevaluated_seconds", funnel="unevaluated") == [150]
    assert (of(shown, "funnelwatch_workers_alive"), of(shown, "funnelwatch_workers_unhealthy")) == ([1], [0])
    ill = exporting(lambda: Totals(workers=[replace(well, error="it waits")], funnels=funnels))()
    assert of(ill, "funnelwatch_workers_unhealthy") == [1]
    assert of(ill, "funnelwatch_funnel_stale", funnel="fresh") == [1]
    nobody = exporting(lambda: Totals(workers=[replace(well, age_s=99)], funnels=funnels))()
    assert of(nobody, "funnelwatch_workers_alive") == [0]
    assert of(nobody, "funnelwatch_funnel_stale", reason="no_worker") == [1, 1, 1]


def test_a_funnel_without_recent_windows_has_no_rate_and_no_error() -> None:
    """The outer join gives it a row without a step."""
    shown = exporting(lambda: Totals([], [], [latest(None, None, None)]))()
    assert of(shown, "funnelwatch_funnel_conversion_rate") == []
    assert of(shown, "funnelwatch_funnel_closed_through_seconds") == [90]


def test_a_total_that_falls_is_not_shown_as_a_fall() -> None:
    """After a restore from a backup the largest value stays until the total has passed it."""
    totals = iter([10, 6, 9, 12])
    scrape = exporting(lambda: Totals([total("A", "iOS", next(totals), 0, 0)]))
    assert [of(scrape(), "funnelwatch_funnel_impressions_total") for _ in range(4)] == [[10], [10], [10], [12]]


def test_sessions_beyond_the_limit_are_added_up_as_events_are() -> None:
    """They share the names of the events' series, so their number is bounded with them, and no rate exceeds 100 %."""
    rows = [total("A", f"os{n}", 9 * n, 7 * n, 0, 3 * n, 2 * n) for n in range(1, 5)]
    shown = exporting(lambda: Totals(rows), max_series=2)()
    sessions, successes = (
        [of(shown, f"funnelwatch_funnel_{name}_total", os=os)[0] for os in ("os1", "os2", "(other)")]
        for name in ("sessions", "session_successes")
    )
    assert (sessions, successes) == ([3, 6, 21], [2, 4, 14])
    assert of(shown, "funnelwatch_exporter_folded_series", what="counts") == [2]


def test_an_outage_of_the_database_is_told_and_shows_no_number() -> None:
    """Prometheus then sees no series, not zeros."""

    def away() -> Totals:
        raise psycopg.OperationalError("gone")

    shown = exporting(away)()
    assert shown == {("funnelwatch_exporter_up", ()): 0}


def test_series_beyond_the_limit_are_added_up_and_none_changes_its_name() -> None:
    """First come, first served: a later scrape with other series, in another order, renames nothing."""
    rows = [total("A", f"os{n}", n, 0, 0) for n in range(1, 5)]
    scrape = exporting(lambda: Totals(rows), max_series=2)
    first = scrape()
    assert of(first, "funnelwatch_funnel_impressions_total", os="os1") == [1]
    assert of(first, "funnelwatch_funnel_impressions_total", os="(other)", step="A") == [7]
    rows[:] = [total("A", "new", 100, 0, 0), total("B", "os1", 5, 0, 0), *reversed(rows)]
    second = scrape()
    assert of(second, "funnelwatch_funnel_impressions_total", os="os1") == [1]
    assert of(second, "funnelwatch_funnel_impressions_total", os="os2") == [2]
    assert of(second, "funnelwatch_funnel_impressions_total", os="(other)", step="A") == [107]
    assert of(second, "funnelwatch_funnel_impressions_total", os="(other)", step="(other)", funnel="f") == [5]
    assert of(second, "funnelwatch_exporter_folded_series", what="counts") == [4]
    assert sum(of(second, "funnelwatch_funnel_impressions_total")) == 115


def test_a_flood_of_names_makes_no_flood_of_series() -> None:
    """Neither funnels nor steps nor values can grow what is shown beyond the limit and its few folds."""
    folding = Folding(3, kept=2)
    flood = [(f"f{n % 50}", f"s{n}", "x", "y") for n in range(1_000)]
    folding.take(flood)
    assert len({folding.name(labels) for labels in flood}) <= 3 + 3 + 1
    assert folding.folded == 997


def test_invented_funnels_leave_names_for_the_series_of_declared_ones() -> None:
    """Half of the names is all that funnels nobody declared can have, however many come first."""
    folding = Folding(10, 2, {"sign_up"})
    folding.take([(f"invented {n}", "A", "iOS") for n in range(1_000)])
    assert folding.name(("invented 4", "A", "iOS")) == ("invented 4", "A", "iOS")
    assert folding.name(("invented 5", "A", "iOS")) == ("(other)", "(other)", "(other)")
    later = [("sign_up", "A", f"os {n}") for n in range(8)]
    folding.take(later)
    assert [folding.name(labels) for labels in later[:6]] == [*later[:5], ("sign_up", "A", "(other)")]


def metric(series: int, name: str, kind: str, total: int, counts: dict[int, int], **dimensions: str) -> dict[str, Any]:
    """A row of totals of a counter or timer."""
    samples = sum(counts.values()) or total
    return {"series": series, "name": name, "kind": kind, "dimensions": dimensions, "samples": samples, "total": total,
            "buckets": buckets(counts)}  # fmt: skip


def test_counters_and_timers_are_shown_under_their_names() -> None:
    """Dimensions differ from series to series; names that Prometheus keeps for itself are not taken from it."""
    rows = [
        metric(1, "sms_sent", "COUNTER", 5, {}, os="iOS"),
        metric(2, "sms_sent", "COUNTER", 7, {}, os="iOS", provider="x"),
        metric(3, "sms_delivery", "TIMER", 2_500, {0: 3, 4: 1}, os="iOS", le="1"),
        metric(4, "sms_sent_total", "COUNTER", 1, {}),
    ]
    shown = exporting(lambda: Totals(metrics=rows))()
    assert of(shown, "funnelwatch_counter_sms_sent_total", provider="x") == [7]
    assert sorted(of(shown, "funnelwatch_counter_sms_sent_total")) == [1, 5, 7]
    assert of(shown, "funnelwatch_timer_sms_delivery_seconds_bucket", le="0.127", le_="1") == [3]
    assert of(shown, "funnelwatch_timer_sms_delivery_seconds_count", os="iOS") == [4]
    assert of(shown, "funnelwatch_timer_sms_delivery_seconds_sum") == [2.5]


def test_counters_beyond_the_limit_are_added_up_under_their_name() -> None:
    """The sum over a name stays right."""
    rows = [metric(n, "sms_sent", "COUNTER", n, {}, os=f"os{n}") for n in range(1, 5)]
    shown = exporting(lambda: Totals(metrics=rows), max_series=2)()
    assert of(shown, "funnelwatch_counter_sms_sent_total", os="(other)") == [7]
    assert sum(of(shown, "funnelwatch_counter_sms_sent_total")) == 10
    assert of(shown, "funnelwatch_exporter_folded_series", what="metrics") == [2]
