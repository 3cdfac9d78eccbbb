"""Counts that were dropped stay dropped, and what outlives them stays as it is, whatever is kept from then on."""

from __future__ import annotations

from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from funnelwatch.sinks.timescale.refreshing import follow_dropped

from funnelwatch.query.rate_query import RateQuery
from funnelwatch.query.rates import query_rates
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.rates import Scope
from funnelwatch.sinks.timescale.retention import (
    LEVELS,
    Retention,
    archive,
    countable_from,
    kept_from,
    read_kept,
    refresh,
    set_retention,
    windows_kept_from,
)
from funnelwatch.stream.worker.components import WorkerComponents
from tests.filling import count_in
from tests.integration.test_rollups import (
    JOBS,
    NOW,
    TODAY,
    WIDTHS,
    by_hand,
    counted,
    drop_what_is_not_kept,
    forget_dropped,
    level_of,
)
from tests.integration.test_views import DAY_MS, at, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT = Retention(windows=30, five_minutes=60, hours=100, days=0)
OLD = TODAY - 40 * DAY_MS
OLDER = TODAY - 80 * DAY_MS


@pytest.fixture(autouse=True)
def _as_new(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing was ever dropped, for this test and for the next."""
    names = [name for name in ("either", "extended", "plain") if name in request.fixturenames]
    if not names:
        yield
        return
    database: Database = request.getfixturevalue(names[0])
    forget_dropped(database)
    yield
    forget_dropped(database)


def run_jobs(database: Database, kind: str) -> None:
    """Run the extension's own jobs of a kind now, in the order in which they were made."""
    jobs = rows(database, "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = %s ORDER BY job_id", kind)
    assert jobs or kind == "policy_retention"
    for job in jobs:
        with database.outside_transaction() as cursor:
            cursor.execute("CALL run_job(%s)", [job["job_id"]])


def refresh_in_every_way(database: Database) -> None:
    """By the jobs and by the command."""
    if not archives(database):
        run_jobs(database, "policy_refresh_continuous_aggregate")
    refresh(database)


def durations_of(database: Database, funnel: str, level: str) -> int:
    """How many successes the histograms of a level have."""
    slots = " + ".join(f"n{slot}" for slot in range(8))
    found = rows(database, f"SELECT sum({slots})::bigint AS many FROM durations_{level} WHERE funnel = %s", funnel)
    return int(found[0]["many"] or 0)


@pytest.mark.parametrize(
    "afterwards",
    [
        [Retention()],
        [Retention(60, 60, 100, 0)],
        [Retention(), SHORT, Retention(35, 60, 100, 0)],
        [Retention(0, 0, 0, 0), Retention(20, 20, 20, 0), Retention(0, 0, 0, 0)],
    ],
    ids=["for ever", "longer", "in turns", "shorter, then for ever"],
)
def test_rollups_keep_what_they_outlived_when_more_is_kept_afterwards(
    either: Database, funnel: str, afterwards: list[Retention]
) -> None:
    """A worker without the setting, or with a larger one, changes no number, whoever refreshes."""
    old, older, recent = counted(OLD), counted(OLDER, number=2), counted(TODAY - 5 * DAY_MS, "Android", 3)
    took = {key: [1_000] for key in (*old, *older, *recent)}
    count_in(either, old | older | recent, funnel=funnel, durations=took)
    refresh_in_every_way(either)
    set_retention(either, SHORT)
    drop_what_is_not_kept(either)
    drop_what_is_not_kept(either)
    # Days are made of hours of which those of 80 days ago are dropped as well.
    with_everything = {"5m": (old, recent), "1h": (old, older, recent), "1d": (old, older, recent)}
    for retention in afterwards:
        set_retention(either, retention)
        follow_dropped(either)
        refresh_in_every_way(either)
        for level, parts in with_everything.items():
            if retention.windows == 20 and level != "1d":
                continue  # of 5 minutes and hours as old as that, chunks may go or stay
            found = level_of(either, funnel, level)
            assert {key: found.get(key) for key in by_hand(*parts, level=level)} == by_hand(*parts, level=level)
        assert durations_of(either, funnel, "1d") == 3
    assert sum(tally[0] for tally in level_of(either, funnel, "1d").values()) == 60


@pytest.mark.parametrize("level", ["5m", "1h"])
def test_hours_and_days_outlive_the_rollup_that_they_are_made_of(extended: Database, funnel: str, level: str) -> None:
    """The same one level up: 5 minutes or hours were kept for less, and then for ever."""
    old = counted(OLD)
    count_in(extended, old, funnel=funnel)
    refresh(extended)
    set_retention(extended, Retention(10, 10, 0 if level == "5m" else 10, 0))
    run_jobs(extended, "policy_retention")
    # Chunks of rollups are of ten days, and go when all of them is older: this one is dropped by hand for certain.
    for what in ("counts", "durations"):
        rows(extended, f"SELECT drop_chunks('{what}_{level}', older_than => %s)", at(TODAY - 12 * DAY_MS))
    assert level_of(extended, funnel, level) == {}
    set_retention(extended, Retention())
    refresh_in_every_way(extended)
    coarser = ["1h", "1d"] if level == "5m" else ["1d"]
    for one in coarser:
        assert level_of(extended, funnel, one) == by_hand(old, level=one)


def test_a_late_event_does_not_make_a_bucket_anew_from_itself(either: Database, funnel: str) -> None:
    """A window is there again where its like were dropped; the rollups keep the counts of before."""
    old = counted(OLD)
    count_in(either, old, funnel=funnel)
    refresh(either)
    set_retention(either, SHORT)
    drop_what_is_not_kept(either)
    set_retention(either, Retention())
    count_in(either, dict.fromkeys(old, (1, 1, 0)), funnel=funnel)
    refresh_in_every_way(either)
    for level in WIDTHS:
        [tally] = level_of(either, funnel, level).values()
        # On plain PostgreSQL it is added to the archive; with TimescaleDB workers reject it (countable_from).
        assert tally[0] == (11 if archives(either) else 10), level


def archives(database: Database) -> bool:
    """Whether it is plain PostgreSQL."""
    return not rows(database, "SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")


def test_workers_reject_what_would_be_added_to_dropped_counts(extended: Database) -> None:
    """From two days after the moment on, so that a refresh reaches every bucket; on the next start and in between."""
    assert countable_from(extended, NOW) == (None, None)
    set_retention(extended, SHORT)
    expected = NOW - 27 * DAY_MS
    assert countable_from(extended, NOW) == (expected, expected)
    set_retention(extended, Retention())
    events_from, metrics_from = countable_from(extended, NOW)
    assert events_from == metrics_from
    assert events_from == pytest.approx(expected, abs=DAY_MS / 4)


def test_on_plain_postgresql_old_events_are_counted_until_days_are_forgotten(plain: Database) -> None:
    """They are added to the archives; counters and timers have none."""
    set_retention(plain, SHORT)
    archive(plain, NOW)
    set_retention(plain, Retention())
    events_from, metrics_from = countable_from(plain, NOW)
    assert (events_from, metrics_from) == (None, TODAY - 28 * DAY_MS)
    set_retention(plain, Retention(30, 60, 100, 200))
    archive(plain, NOW)
    set_retention(plain, Retention())
    assert countable_from(plain, NOW) == (TODAY - 198 * DAY_MS, TODAY - 28 * DAY_MS)


def test_what_was_dropped_is_known_whatever_is_kept_now(either: Database, funnel: str) -> None:
    """A question about it is answered by a level that still has it, not by what is left of the windows."""
    count_in(either, counted(OLD), funnel=funnel)
    refresh(either)
    set_retention(either, SHORT)
    drop_what_is_not_kept(either)
    before = kept_from(either, NOW)
    set_retention(either, Retention())
    after = kept_from(either, NOW)
    assert [after[level] for level in LEVELS] == pytest.approx([before[level] for level in LEVELS], abs=2 * DAY_MS)
    windows = windows_kept_from(either, NOW)
    assert windows is not None
    assert windows > NOW - 31 * DAY_MS
    question = RateQuery(Scope(funnel), OLD, NOW, NOW, every_ms=DAY_MS)
    assert sum(rate.impressions for rate in query_rates(either, Settings(), question).rates) == 10


def test_the_moment_never_moves_back(either: Database) -> None:
    """Neither by a longer time nor by none, in any order."""
    moments = []
    for retention in (SHORT, Retention(), Retention(200, 200, 200, 0), SHORT, Retention(20, 60, 100, 0), Retention()):
        set_retention(either, retention)
        archive(either, NOW)
        moments.append([read_kept(either)[level].dropped_ms or 0 for level in LEVELS])
    assert all(
        earlier <= later for before, after in pairwise(moments) for earlier, later in zip(before, after, strict=True)
    )
    assert moments[-1][0] > NOW - 22 * DAY_MS


def test_what_no_refresh_has_reached_is_rolled_up_before_it_may_be_dropped(extended: Database, funnel: str) -> None:
    """Where jobs did not run, or late events came just now, a shorter time loses nothing."""
    old = counted(OLD)
    count_in(extended, old, funnel=funnel)
    set_retention(extended, SHORT)
    run_jobs(extended, "policy_retention")
    assert rows(extended, "SELECT 1 FROM window_counts WHERE funnel = %s", funnel) == []
    for level in WIDTHS:
        assert level_of(extended, funnel, level) == by_hand(old, level=level)


def test_an_edit_by_hand_forgets_nothing_either(extended: Database, funnel: str) -> None:
    """Whoever changes how long something is kept in SQL, past the settings, destroys no rollup."""
    old = counted(OLD)
    count_in(extended, old, funnel=funnel)
    refresh(extended)
    set_retention(extended, SHORT)
    run_jobs(extended, "policy_retention")
    with extended.transaction() as cursor:
        cursor.execute("UPDATE retention SET keep = NULL")
    set_retention(extended, Retention())
    follow_dropped(extended)
    refresh_in_every_way(extended)
    for level in WIDTHS:
        assert level_of(extended, funnel, level) == by_hand(old, level=level)


def starts(database: Database) -> dict[str, str | None]:
    """Where the refreshes begin."""
    found = [row for row in rows(database, JOBS) if row["proc_name"] == "policy_refresh_continuous_aggregate"]
    return {row["relation"]: row["start_offset"] for row in found}


def test_refreshes_reach_back_to_the_same_moment_as_days_pass(extended: Database) -> None:
    """Their offset grows with the days since, up to what is kept now, and their jobs stay what they are."""
    set_retention(extended, SHORT)
    set_retention(extended, Retention(windows=60, five_minutes=60, hours=100))
    assert starts(extended)["counts_5m"] == "28 days"
    jobs = "SELECT array_agg(job_id ORDER BY job_id) AS ids FROM timescaledb_information.jobs"
    before = rows(extended, jobs)
    for passed, expected in ((40, "40 days"), (58, "58 days"), (70, "59 days")):
        with extended.transaction() as cursor:
            cursor.execute(
                "UPDATE retention SET dropped_before = now() - make_interval(days => %s, hours => 1) "
                "WHERE level = 'windows'",
                [passed],
            )
        follow_dropped(extended)
        assert starts(extended)["counts_5m"] == starts(extended)["durations_5m"] == expected
    assert rows(extended, jobs) == before
    run_jobs(extended, "policy_refresh_continuous_aggregate")


def test_nothing_is_refreshed_while_the_moment_lies_ahead(extended: Database, funnel: str) -> None:
    """A clock that was wrong has dropped more; refreshes come back by themselves when they can."""
    count_in(extended, counted(OLD), funnel=funnel)
    with extended.transaction() as cursor:
        cursor.execute("UPDATE retention SET dropped_before = now() + INTERVAL '3 days' WHERE level = 'windows'")
    follow_dropped(extended)
    assert starts(extended).keys() == {"counts_1h", "counts_1d", "durations_1h", "durations_1d"}
    refresh(extended)
    with extended.transaction() as cursor:
        cursor.execute("UPDATE retention SET dropped_before = now() - INTERVAL '3 days' WHERE level = 'windows'")
    follow_dropped(extended)
    assert starts(extended)["counts_5m"] == "3 days"


def test_a_worker_rejects_what_another_one_has_dropped(settings: Settings) -> None:
    """Started without the setting, it learns from the database what is gone; in between it is told every minute."""
    with closing(Database(settings.timescale_url)) as database:
        migrate(database, settings.window_ms)
        set_retention(database, Retention(30, 60, 100, 200))
        archive(database, NOW)
        components = WorkerComponents(settings)
        try:
            components.prepare()
            assert [kept.days for kept in read_kept(database).values()] == [0, 0, 0, 0]
            limits = components.validator.start().limits
            maintain = components.maintenance.start()
            assert limits.dropped_ms == TODAY - 198 * DAY_MS
            assert components.horizons.metrics.from_ms == TODAY - 28 * DAY_MS
            set_retention(database, Retention(30, 60, 90, 100))
            archive(database, NOW)
            maintain()
            assert limits.dropped_ms == pytest.approx(NOW - 97 * DAY_MS, abs=DAY_MS)
        finally:
            components.maintenance.stop()
            components.validator.stop()
