"""Counts that were dropped stay dropped, and what outlives them stays as it is, whatever is kept from then on."""

from __future__ import annotations

from contextlib import closing
from itertools import pairwise

import pytest

from funnelwatch.query.rate_query import RateQuery
from funnelwatch.query.rates import query_rates
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.rates import Scope
from funnelwatch.sinks.timescale.retention import (
    LEVELS,
    Retention,
    countable_from,
    drop_expired,
    kept_from,
    read_kept,
    windows_kept_from,
)
from funnelwatch.stream.worker.components import WorkerComponents
from tests.filling import count_in, keep_for
from tests.integration.test_rollups import NOW, TODAY, WIDTHS, by_hand, counted, level_of
from tests.integration.test_views import DAY_MS, at, rows
from tests.ledger import agree, begin_anew, notes

SHORT = Retention(windows=30, five_minutes=60, hours=100, days=0)
OLD = TODAY - 40 * DAY_MS
OLDER = TODAY - 80 * DAY_MS
KEPT_FROM = TODAY - 30 * DAY_MS


@pytest.fixture(autouse=True)
def _anew(request: pytest.FixtureRequest) -> None:
    """Nothing is counted and nothing was ever dropped."""
    if "either" in request.fixturenames:
        begin_anew(request.getfixturevalue("either"))


def durations_of(database: Database, funnel: str, level: str) -> int:
    """How many successes the histograms of a level have."""
    conversions = f"SELECT sum(conversions)::bigint AS many FROM time_to_convert_{level} WHERE funnel = %s"
    return int(rows(database, conversions, funnel)[0]["many"] or 0)


def dropped(database: Database) -> dict[str, int | None]:
    """Level to before when it is dropped, ms."""
    return {level: kept.dropped_ms for level, kept in read_kept(database).items()}


def windows(database: Database) -> list[int]:
    """The windows that are there."""
    found = rows(database, "SELECT DISTINCT window_start AS start FROM window_counts ORDER BY 1")
    return [int(row["start"].timestamp() * 1000) for row in found]


def edit_by_hand(database: Database) -> None:
    """Change a count past everything, so that no rollup is trusted that can be made again."""
    with database.transaction() as cursor:
        cursor.execute("UPDATE window_counts SET failures = failures")


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
    """A worker without the setting, or with a larger one, changes no number, whatever is materialized again."""
    old, older, recent = counted(OLD), counted(OLDER, number=2), counted(TODAY - 5 * DAY_MS, "Android", 3)
    took = {key: [1_000] for key in (*old, *older, *recent)}
    count_in(either, old | older | recent, funnel=funnel, durations=took)
    materialize(either, NOW)
    keep_for(either, SHORT)
    drop_expired(either, NOW)
    # Days are made of hours, and hours of 5 minutes, of which those of 80 days ago are dropped as well.
    with_everything = {"5m": (old, recent), "1h": (old, older, recent), "1d": (old, older, recent)}
    for retention in afterwards:
        keep_for(either, retention)
        for _ in range(2):
            materialize(either, NOW)
            drop_expired(either, NOW)
            agree(either, retention)
            edit_by_hand(either)
            agree(either, retention)
            for level, parts in with_everything.items():
                if 20 in (afterwards[-1].windows, retention.windows) or afterwards[1:2] == [Retention(20, 20, 20, 0)]:
                    continue  # 5 minutes and hours as old as that are gone, or wait in a chunk
                found = level_of(either, funnel, level)
                assert {key: found.get(key) for key in by_hand(*parts, level=level)} == by_hand(*parts, level=level)
            assert durations_of(either, funnel, "1d") == 3
            assert level_of(either, funnel, "1d") == by_hand(old, older, recent, level="1d")


@pytest.mark.parametrize("level", ["5m", "1h"])
def test_hours_and_days_outlive_the_rollup_that_they_are_made_of(either: Database, funnel: str, level: str) -> None:
    """The same one level up: 5 minutes or hours were kept for less, and then for ever."""
    old = counted(OLD)
    count_in(either, old, funnel=funnel)
    materialize(either, NOW)
    keep_for(either, Retention(10, 10, 0 if level == "5m" else 10, 0))
    drop_expired(either, NOW)
    assert level_of(either, funnel, level) == {}
    keep_for(either, Retention())
    coarser = ["1h", "1d"] if level == "5m" else ["1d"]
    for _ in range(2):
        for one in coarser:
            assert level_of(either, funnel, one) == by_hand(old, level=one)
        edit_by_hand(either)
        materialize(either, NOW)


def test_a_late_event_does_not_make_a_final_bucket_anew_from_itself(either: Database, funnel: str) -> None:
    """A window that comes back past the intake notes no final bucket; the rollups keep their counts of before."""
    old = counted(OLD)
    count_in(either, old, funnel=funnel)
    materialize(either, NOW)
    keep_for(either, SHORT)
    drop_expired(either, NOW)
    count_in(either, dict.fromkeys(old, (1, 1, 0)), funnel=funnel)
    # 5 minutes are still there for hours to be made of.
    assert notes(either) == [("1d", OLD), ("1h", OLD)]
    for _ in range(2):
        for level in WIDTHS:
            assert level_of(either, funnel, level) == by_hand(old, level=level), level
        materialize(either, NOW)
    assert notes(either) == []


@pytest.mark.parametrize("many", [1, 300])
def test_a_note_of_a_final_bucket_empties_nothing(either: Database, funnel: str, many: int) -> None:
    """A flush that began before the drop may have noted the bucket: the note is ignored, and removed in time."""
    old = counted(OLD) | counted(TODAY - 5 * DAY_MS, "Android")
    count_in(either, old, funnel=funnel)
    materialize(either, NOW)
    keep_for(either, Retention(30, 30, 30, 0))
    drop_expired(either, NOW)
    with either.transaction() as cursor:
        cursor.execute(
            "INSERT INTO rollup_invalidations SELECT level, %s::timestamptz - number * width "
            "FROM rollup_progress, generate_series(0, %s) AS number",
            [at(OLD), many - 1],
        )
    day = by_hand(old, level="1d")
    for _ in range(2):
        assert level_of(either, funnel, "1d") == day
        agree(either)
        materialize(either, NOW)
    assert notes(either) == []
    assert level_of(either, funnel, "1d") == day


def test_a_level_whose_rollup_lags_behind_is_not_dropped(either: Database, funnel: str) -> None:
    """Neither before anything is materialized, nor from the day on in which a change is not materialized yet."""
    tallies = counted(OLDER) | counted(OLD) | counted(TODAY - 35 * DAY_MS)
    count_in(either, tallies, funnel=funnel)
    keep_for(either, SHORT)
    drop_expired(either, NOW)
    assert windows(either) == [OLDER, OLD, TODAY - 35 * DAY_MS]
    assert set(dropped(either).values()) == {None}
    materialize(either, NOW)
    late = counted(OLD + 5 * 3_600_000)
    count_in(either, late, funnel=funnel)
    drop_expired(either, NOW)
    assert windows(either) == [OLD, OLD + 5 * 3_600_000, TODAY - 35 * DAY_MS]
    assert dropped(either)["windows"] == OLD
    agree(either)
    edit_by_hand(either)
    drop_expired(either, NOW)
    assert windows(either) == [OLD, OLD + 5 * 3_600_000, TODAY - 35 * DAY_MS]
    materialize(either, NOW)
    drop_expired(either, NOW)
    assert windows(either) == []
    assert dropped(either)["windows"] == KEPT_FROM
    agree(either)
    for level in ("1h", "1d"):
        assert level_of(either, funnel, level) == by_hand(tallies, late, level=level)


def test_a_materialization_that_is_ended_anywhere_loses_nothing(either: Database, funnel: str) -> None:
    """After each piece everything is dropped that may be."""
    tallies = {key: tally for days in range(0, 200, 9) for key, tally in counted(TODAY - days * DAY_MS).items()}
    count_in(either, tallies, funnel=funnel)
    keep_for(either, Retention(10, 20, 30, 0))
    while materialize(either, NOW, lambda: False):
        drop_expired(either, NOW)
        agree(either)
        assert level_of(either, funnel, "1d") == by_hand(tallies, level="1d")
    drop_expired(either, NOW)
    assert [dropped(either)[level] for level in LEVELS] == [*(TODAY - days * DAY_MS for days in (10, 20, 30)), None]
    assert level_of(either, funnel, "1d") == by_hand(tallies, level="1d")


def test_workers_reject_what_would_be_added_to_dropped_counts(either: Database, funnel: str) -> None:
    """From three days before it is dropped on; on the next start and in between."""
    assert countable_from(either, NOW) is None
    keep_for(either, SHORT)
    assert countable_from(either, NOW) == NOW - 27 * DAY_MS
    count_in(either, counted(OLD), funnel=funnel)
    materialize(either, NOW)
    drop_expired(either, NOW)
    keep_for(either, Retention())
    assert countable_from(either, NOW) == KEPT_FROM + 2 * DAY_MS


def test_what_was_dropped_is_known_whatever_is_kept_now(either: Database, funnel: str) -> None:
    """A question about it is answered by a level that still has it, not by what is left of the windows."""
    count_in(either, counted(OLD), funnel=funnel)
    materialize(either, NOW)
    keep_for(either, SHORT)
    drop_expired(either, NOW)
    before = kept_from(either, NOW)
    keep_for(either, Retention())
    after = kept_from(either, NOW)
    assert [after[level] for level in LEVELS] == pytest.approx([before[level] for level in LEVELS], abs=2 * DAY_MS)
    assert windows_kept_from(either, NOW) == KEPT_FROM
    question = RateQuery(Scope(funnel), OLD, NOW, NOW, every_ms=DAY_MS)
    assert sum(rate.impressions for rate in query_rates(either, Settings(), question).rates) == 10


def test_the_moment_never_moves_back(either: Database) -> None:
    """Neither by a longer time nor by none, in any order."""
    materialize(either, NOW)
    moments = []
    for retention in (SHORT, Retention(), Retention(200, 200, 200, 0), SHORT, Retention(20, 60, 100, 0), Retention()):
        keep_for(either, retention)
        drop_expired(either, NOW)
        moments.append([at_ms or 0 for at_ms in dropped(either).values()])
    assert all(
        earlier <= later for before, after in pairwise(moments) for earlier, later in zip(before, after, strict=True)
    )
    assert moments[-1] == [TODAY - 20 * DAY_MS, TODAY - 60 * DAY_MS, TODAY - 100 * DAY_MS, 0]


def test_an_edit_by_hand_forgets_nothing_either(either: Database, funnel: str) -> None:
    """Changing the retention, or counts, in SQL destroys no rollup: what is final is not made again."""
    old, recent = counted(OLD), counted(TODAY - 5 * DAY_MS)
    count_in(either, old | recent, funnel=funnel)
    materialize(either, NOW)
    keep_for(either, SHORT)
    drop_expired(either, NOW)
    with either.transaction() as cursor:
        cursor.execute("UPDATE retention SET keep = NULL")
        cursor.execute("UPDATE window_counts SET impressions = impressions + 5")
    through = "SELECT materialized_through AS through FROM rollup_progress WHERE level = '5m'"
    assert rows(either, through) == [{"through": at(KEPT_FROM)}]
    edited = {key: [tally[0] + 5, *tally[1:]] for key, tally in recent.items()}
    for _ in range(2):
        agree(either)
        for level in WIDTHS:
            assert level_of(either, funnel, level) == by_hand(old, edited, level=level)
        materialize(either, NOW)


def test_a_worker_rejects_what_another_one_has_dropped(settings: Settings) -> None:
    """Started without the setting, it learns from the database what is gone; in between it asks every minute."""
    with closing(Database(settings.timescale_url)) as database:
        migrate(database, settings.window_ms)
        materialize(database, NOW)
        keep_for(database, Retention(30, 60, 100, 200))
        drop_expired(database, NOW)
        components = WorkerComponents(settings)
        try:
            components.prepare()
            assert [kept.days for kept in read_kept(database).values()] == [0, 0, 0, 0]
            limits = components.validator.start().limits
            maintain = components.maintenance.start()
            assert limits.dropped_ms == KEPT_FROM + 2 * DAY_MS
            keep_for(database, Retention(20, 60, 90, 100))
            drop_expired(database, NOW)
            maintain()
            assert limits.dropped_ms == pytest.approx(NOW - 17 * DAY_MS, abs=DAY_MS)
        finally:
            components.maintenance.stop()
            components.validator.stop()
