"""Which figures are called current, old or unknown: every state of the pipeline has its own words."""

from __future__ import annotations

from typing import Any

import pytest

from funnelwatch.cli.doctor_lag import Look, Oldest, lag_finding
from funnelwatch.cli.doctor_pipeline import funnel_findings, worker_findings
from funnelwatch.schemas.freshness import (
    Freshness,
    FunnelSeen,
    Why,
    WorkerSeen,
    aged,
    by_workers,
    freshness,
    stale_after_ms,
    unreachable,
    worst,
)
from funnelwatch.schemas.settings import Settings

NOW = 1_795_716_900_000  # 2026-11-26 18:15:00 UTC
MINUTE = 60_000
STALE_MS = stale_after_ms(Settings())


def seen(**changes: Any) -> WorkerSeen:
    """A worker that is well, but for the changes."""
    known: dict[str, Any] = {
        "host": "a", "pid": 7, "version": "1.0", "assigned": 4, "error": None, "ended": False, "seen_ms": NOW - 2_000,
        "age_s": 2.0,
    }  # fmt: skip
    return WorkerSeen(**{**known, **changes})


def silent(minutes: float, **changes: Any) -> WorkerSeen:
    """A worker that was last seen so long ago."""
    return seen(**{"seen_ms": NOW - round(minutes * MINUTE), "age_s": minutes * 60, **changes})


def funnel(**changes: Any) -> FunnelSeen:
    """A funnel whose windows close and are evaluated, but for the changes."""
    known: dict[str, Any] = {"closed_through_ms": NOW - MINUTE, "closed_at_ms": NOW - 40_000}
    return FunnelSeen("sign_up", NOW, **{**known, **changes})


OLD = {"closed_through_ms": NOW - 12 * MINUTE, "closed_at_ms": NOW - 12 * MINUTE}


@pytest.mark.parametrize(
    ("at", "workers", "state", "why", "message"),
    [
        (funnel(), [seen()], "fresh", Why.FRESH, "Windows are complete up to 18:14:00"),
        (funnel(), [], "fresh", Why.FRESH, "Windows are complete up to 18:14:00"),
        (funnel(), [seen(), silent(3)], "fresh", Why.FRESH, "Windows are complete up to 18:14:00"),
        (
            funnel(**OLD), [seen()], "stale", Why.NOT_CLOSING,
            "No window has closed since 18:03:00 (12 min): these figures are old",
        ),
        (
            funnel(closed_through_ms=NOW - 12 * MINUTE, closed_at_ms=NOW - 11 * MINUTE), [seen()], "stale",
            Why.NOT_CLOSING,
            "No window has closed since 18:04:00 (11 min): these figures are old, they end at 18:03:00",
        ),
        (
            funnel(closed_through_ms=NOW - 12 * MINUTE), [seen()], "stale", Why.BEHIND,
            "Windows are complete only up to 18:03:00 (12 min ago), as workers are behind: these figures are old",
        ),
        (
            funnel(), [silent(8)], "stale", Why.NO_WORKER,
            "No worker is alive: worker a (7) was last seen at 18:07:00 (8 min ago); these figures end at 18:14:00",
        ),
        (
            funnel(**OLD), [silent(8, ended=True)], "stale", Why.NO_WORKER,
            "No worker is alive: the last one ended at 18:07:00 (8 min ago); these figures end at 18:03:00",
        ),
        (
            funnel(unevaluated_since_ms=NOW - 5 * MINUTE), [seen()], "stale", Why.NOT_EVALUATED,
            "No window has been evaluated since 18:10:00 (5 min): no alert can fire",
        ),
        (
            funnel(unevaluated_since_ms=NOW - 20_000), [seen()], "fresh", Why.FRESH,
            "Windows are complete up to 18:14:00",
        ),
        (
            funnel(), [seen(error="waits for PostgreSQL since 40 s (flush): rejected.")], "unknown", Why.WORKER_ERROR,
            "Worker a (7) says: waits for PostgreSQL since 40 s (flush): rejected",
        ),
        (
            funnel(**OLD), [seen(error="it is STOPPED")], "stale", Why.NOT_CLOSING,
            "No window has closed since 18:03:00 (12 min): these figures are old. Worker a (7) says: it is STOPPED",
        ),
        (
            funnel(closed_through_ms=None, closed_at_ms=None), [seen()], "unknown", Why.NO_WINDOW,
            "No window of sign_up is complete yet",
        ),
        (
            funnel(closed_through_ms=None, closed_at_ms=None, counted_since_ms=NOW - 10 * MINUTE), [seen()], "stale",
            Why.NOT_CLOSING, "No window has ever closed, though events are counted since 18:05:00",
        ),
    ],
)  # fmt: skip
def test_each_way_of_standing_still_has_its_own_words(
    at: FunnelSeen, workers: list[WorkerSeen], state: str, why: Why, message: str
) -> None:
    """Worker dead, closer frozen, detector frozen, behind, ill, new: and only what is well is fresh."""
    found = freshness(at, workers, STALE_MS)
    assert (found.state, found.why, found.message) == (state, why, message)


def test_a_quiet_night_is_fresh() -> None:
    """Without any event windows go on to close, and nothing waits to be evaluated."""
    assert freshness(funnel(unevaluated_since_ms=None), [seen()], STALE_MS).state == "fresh"


def test_counters_and_timers_alone_are_current_while_workers_live() -> None:
    """They have no windows that close; what a worker says of itself counts."""
    assert by_workers([seen(), silent(3)]).state == "fresh"
    assert by_workers([seen(error="it waits")]).state == "unknown"


def test_a_window_is_old_only_after_the_time_that_closing_takes() -> None:
    """Two windows, the disorder and an idle timeout, and some slack: with other settings, later."""
    assert stale_after_ms(Settings()) == 2 * MINUTE + 10_000 + 10_000 + 30_000
    assert stale_after_ms(Settings(allowed_disorder_s=600)) == 2 * MINUTE + 600_000 + 10_000 + 30_000
    assert stale_after_ms(Settings(), 1_000) == 2_000 + 10_000 + 10_000 + 30_000


def test_a_time_of_another_day_has_its_date() -> None:
    """18:15 of which day is not to be guessed."""
    found = freshness(funnel(closed_through_ms=NOW - 2 * 86_400_000, closed_at_ms=None), [], STALE_MS)
    assert "since 2026-11-24 18:15:00 (2 d)" in found.message


def test_what_was_seen_before_an_outage_ages_with_it() -> None:
    """A fresh look of eight minutes ago is not fresh now."""
    later, workers = aged(funnel(), [seen()], 8 * MINUTE)
    assert not workers[0].alive
    assert freshness(later, [], STALE_MS).state == "stale"


def test_a_server_that_does_not_answer_makes_everything_unknown() -> None:
    """With its name, since when, and why."""
    found = unreachable("The database", "connection refused.", NOW - MINUTE, NOW)
    assert found.as_object() == {
        "state": "unknown",
        "reason": "unreachable",
        "since": "2026-11-26T18:14:00.000Z",
        "message": "The database has not answered since 18:14:00 (1 min): nobody knows whether these figures are "
        "current (connection refused)",
    }


def test_the_worst_of_several_funnels_is_told() -> None:
    """Old before unknown before fresh."""
    found = [Freshness(state, Why.FRESH, None, state) for state in ("fresh", "unknown", "stale", "fresh")]
    assert worst(found) is found[2]
    assert worst(found[:2]) is found[1]
    assert worst([]) is None


def look(committed: int | None, end: int, beginning: int = 0) -> Look:
    """A group on a topic of one partition."""
    return Look({0: (committed, beginning, end)})


@pytest.mark.parametrize(
    ("first", "second", "oldest", "level", "words"),
    [
        (look(100, 100), look(100, 100), Oldest(None), "ok", "0 record(s) behind"),
        (look(None, 0), look(None, 0), Oldest(None), "ok", "nothing to read"),
        (look(90, 100), look(95, 104), Oldest(0.4), "ok", "9 record(s) behind"),
        (look(99, 100), look(99, 100), Oldest(None), "ok", "0 record(s) behind"),
        (look(0, 54_000), look(0, 54_000), Oldest(480), "FAILED", "reads nothing: the oldest has waited for 8 min"),
        (look(0, 54_000), look(0, 54_400), Oldest(480), "FAILED", "reads nothing"),
        (look(10, 100), look(20, 190), Oldest(20), "FAILED", "the lag grows"),
        (look(10, 100), look(60, 110), Oldest(400), "FAILED", "figures are old"),
        (look(10, 100), look(60, 110), Oldest(40), "warning", "catches up"),
        (look(10, 100), look(10, 100), Oldest(20), "warning", "catches up"),
        (look(10, 100), look(10, 100), Oldest(None, known=False), "unknown", "age is unknown"),
        (look(None, 5), look(None, 5), Oldest(1), "warning", "has not read t yet"),
        (look(None, 5), look(None, 5), Oldest(120), "FAILED", "has not read t yet: 5 record(s) wait"),
        (look(3, 100, beginning=60), look(3, 100, beginning=60), Oldest(120), "FAILED", "40 record(s) behind"),
    ],
)
def test_a_lag_that_grows_or_is_old_is_a_failure_and_one_that_nobody_knows_is_unknown(
    first: Look, second: Look, oldest: Oldest, level: str, words: str
) -> None:
    """A few records on their way are no lag, nor are markers of transactions that end a partition."""
    found = lag_finding("g", "t", first, second, oldest)
    assert (found.level, words in found.message) == (level, True), found.message


def test_the_doctor_fails_without_a_worker_and_repeats_what_workers_say() -> None:
    """Dead, frozen, ended, ill, well, and none yet."""
    assert [one.level for one in worker_findings([seen()], counted=True)] == ["ok"]
    assert [one.level for one in worker_findings([seen(), silent(2)], counted=True)] == ["ok", "warning"]
    (ill,) = worker_findings([seen(error="counting has waited for 90 s")], counted=True)
    assert (ill.level, ill.message) == ("FAILED", "worker a (7) reports: counting has waited for 90 s")
    (frozen,) = worker_findings([silent(8)], counted=True)
    assert (frozen.level, frozen.message) == ("FAILED", "no worker is alive: a (7) was last heard of 8 min ago")
    (ended,) = worker_findings([silent(8, ended=True)], counted=True)
    assert (ended.level, "ended 8 min ago" in ended.message) == ("FAILED", True)
    assert [one.level for one in worker_findings([], counted=True)] == ["FAILED"]
    assert [one.level for one in worker_findings([], counted=False)] == ["warning"]


def test_the_doctor_fails_on_windows_that_are_not_closed_or_not_evaluated() -> None:
    """Each funnel has its line; a new one that has had no time to close a window is a warning."""
    funnels = [funnel(), funnel(**OLD), funnel(unevaluated_since_ms=NOW - 5 * MINUTE), funnel(closed_through_ms=None)]
    found = list(funnel_findings(funnels, [seen()], STALE_MS))
    assert [one.level for one in found] == ["ok", "FAILED", "FAILED", "warning"]
    assert all(one.advice for one in found[1:])
