"""Rollups show what was counted, at every moment, whatever is materialized or dropped; on both databases."""

from __future__ import annotations

import random
import threading
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import pytest

from funnelwatch.schemas.counts import PartitionCounts, Series
from funnelwatch.schemas.times import HOUR_MS
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database, run
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.migrations import has_timescale
from funnelwatch.sinks.timescale.repairs import RepairStore
from funnelwatch.sinks.timescale.retention import Retention, countable_from, drop_expired
from funnelwatch.sinks.timescale.series import StoredIds
from funnelwatch.sinks.timescale.window_rows import add_counts
from tests.extension import SharedSession
from tests.filling import MINUTE_MS, count_in, keep_for
from tests.integration.test_views import DAY_MS, SMS, at
from tests.ledger import LOOKS, agree, begin_anew, notes, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from funnelwatch.schemas.counts import Counts, Durations

NOW = int(time.time() * 1000)
TODAY = NOW - NOW % DAY_MS
HAND_WRITTEN = """
INSERT INTO window_counts VALUES (date_trunc('day', now()) - INTERVAL '9 days', 1000 + %s, 1, 2, 3, 4, 5, 6, 7, 8, 9)
ON CONFLICT DO NOTHING
"""
KEPT = Retention(windows=30, five_minutes=60, hours=100, days=200)


@pytest.fixture(autouse=True)
def _anew(either: Database) -> None:
    """Each test counts in an empty database."""
    begin_anew(either)


@pytest.fixture
def sessions(either: Database) -> Database:
    """A database with a session for each connection."""
    if isinstance(either, SharedSession):
        pytest.skip("ONE SESSION: in WebAssembly all connections share one, so nobody waits for another")
    return either


def counted(funnel: str, window: int, number: int, os: str = "iOS", slot: int = 31) -> tuple[Counts, Durations]:
    """One series in one window."""
    key = (window, Series.of(funnel, SMS, os=os, app_version="1.0"))
    counts = [number * one for one in (3, 2, 1, 1, 0, 3, 1, 1, 0)]
    return {key: counts}, {(*key, slot): [number], (*key, 7): [number]}


class Scenario:
    """A database to which things happen at random."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database, self.chance, self.funnel = database, random.Random(seed), f"f{seed}"
        self.store = CountStore(database)
        self.repairs = RepairStore(database)

    def a_window(self) -> int:
        """Of any age, often new, and often one of the same few."""
        ages = (0, 0, 1, 60, 90, 26 * 60, 5 * 1440, 31 * 1440, 40 * 1440, 70 * 1440, 130 * 1440, 230 * 1440)
        return NOW - NOW % MINUTE_MS - (self.chance.choice(ages) + self.chance.randrange(8)) * MINUTE_MS

    def count(self) -> None:
        """Flush a few windows."""
        counts: Counts = {}
        durations: Durations = {}
        # The intake rejects events for windows that are dropped.
        from_ms = countable_from(self.database, NOW) or 0
        for window in [self.a_window() for _ in range(self.chance.randrange(1, 5))]:
            if window < from_ms:
                continue
            number, slot = self.chance.randrange(1, 9), self.chance.choice((0, 31, 119))
            some = counted(self.funnel, window, number, self.chance.choice("abc"), slot)
            counts.update(some[0])
            durations.update(some[1])
        start = self.store.start(self.funnel, "id", {0: 0})[0].next_offset
        self.store.flush(self.funnel, "id", [PartitionCounts(0, start, start + 1, WindowCounts.of(counts, durations))])

    def repair(self) -> None:
        """Take what a window counts away, all of it or a part; counts, durations or both."""
        before = self.repairs.snapshot(self.funnel, 0, 2**45)
        if before.counts and before.durations:
            part = self.chance.choice((1, 2))
            counts = self.chance.choice(list(before.counts))
            durations = self.chance.choice(list(before.durations))
            changes = {counts: [-number // part for number in before.counts[counts]]}
            slots = {durations: [-number // part for number in before.durations[durations]]}
            if part == 1 or min(before.counts[counts] + before.durations[durations]) > 1:
                chosen = self.chance.choice(((changes, {}), ({}, slots), (changes, slots)))
                self.repairs.correct(self.funnel, (0, 2**45), before, *chosen)

    def edit(self) -> None:
        """Write past everything, by hand."""
        statement = self.chance.choice(
            (
                HAND_WRITTEN,
                "UPDATE window_counts SET impressions = impressions + 1 WHERE series_id %% 3 = %s",
                "UPDATE window_counts SET reached = reached + 1 WHERE series_id %% 3 = %s",
                "UPDATE window_counts SET d31 = d31 + 5 WHERE series_id %% 3 = %s",
                "DELETE FROM window_counts WHERE series_id %% 3 = %s",
            )
        )
        with self.database.transaction() as cursor:
            cursor.execute(statement, [self.chance.randrange(3)])

    def materialize(self) -> None:
        """By a clock that may be behind, to the end or not."""
        pieces = self.chance.choice((1, 2, 9, 10**6))
        go_on = iter(range(pieces - 1))
        now = NOW - self.chance.choice((0, 0, HOUR_MS, 3 * DAY_MS))
        materialize(self.database, now, lambda: next(go_on, None) is not None)

    def die(self) -> None:
        """Materialize or drop until the server ends it anywhere."""
        doomed = Database(self.database.url)
        try:
            doomed.connection().execute(f"SET statement_timeout = '{self.chance.choice((1, 2, 3))}ms'")  # type: ignore[arg-type]
            self.chance.choice((materialize, drop_expired))(doomed, NOW)
        except psycopg.errors.QueryCanceled:
            pass
        finally:
            doomed.close()

    def drop(self) -> None:
        """Drop what is not kept, as far as it is rolled up."""
        drop_expired(self.database, NOW)

    def compress(self) -> None:
        """Compress all chunks but the newest days."""
        for table in ("window_counts", "rollup_5m", "rollup_1h"):
            rows(
                self.database,
                "SELECT compress_chunk(chunk, if_not_compressed => true) "
                "FROM show_chunks(%s::regclass, older_than => now() - INTERVAL '3 days') AS chunk",
                table,
            )

    def keep(self) -> None:
        """Keep for another time."""
        keep_for(self.database, self.chance.choice((Retention(), KEPT, Retention(35, 35, 60, 0))))

    def things(self) -> Iterator[Callable[[], None]]:
        """What happens."""
        often = [self.count] * 6 + [self.materialize] * 4
        seldom = [self.repair, self.edit, self.drop, self.keep]
        if not isinstance(self.database, SharedSession):
            seldom.append(self.die)
        with self.database.transaction() as cursor:
            if has_timescale(cursor):
                seldom += [self.compress] * 2
        while True:
            yield self.chance.choice([*often, *seldom])


@pytest.mark.parametrize("seed", range(4))
def test_levels_show_what_was_counted_whatever_happens(either: Database, seed: int) -> None:
    """Counts of any age, repairs, edits by hand, retention, materializing that is ended anywhere; in any order."""
    scenario = Scenario(either, seed)
    happened = []
    for thing, _ in zip(scenario.things(), range(60), strict=False):
        thing()
        happened.append(thing.__name__)
        agree(either, happened, scenario.chance.sample(list(LOOKS), 2))
    agree(either, happened)
    materialize(either, NOW)
    assert notes(either) == []
    agree(either)


def test_events_of_now_note_nothing_and_late_ones_their_buckets_once(either: Database, funnel: str) -> None:
    """Nothing is paid for what is not materialized; a late window is added up until it is materialized again."""
    old, fresh = TODAY - 3 * DAY_MS, NOW - NOW % MINUTE_MS
    count_in(either, {(old, SMS, "a", "", ""): (9, 3, 1)}, funnel=funnel)
    materialize(either, NOW)
    count_in(either, {(fresh, SMS, "a", "", ""): (9, 3, 1)}, funnel=funnel)
    assert notes(either) == []
    late = {(old + minutes * MINUTE_MS, SMS, "a", "", ""): (1, 1, 0) for minutes in (0, 1, 7)}
    count_in(either, late, funnel=funnel)
    assert notes(either) == [("1d", old), ("1h", old), ("5m", old), ("5m", old + 5 * MINUTE_MS)]
    agree(either)
    assert materialize(either, NOW) == 3
    assert notes(either) == []
    agree(either)


def test_more_changes_than_a_list_should_have_are_added_up_too(either: Database, funnel: str) -> None:
    """From the oldest of them on nothing is taken from the tables then, at that level."""
    old = TODAY - 6 * DAY_MS
    count_in(either, {(old - DAY_MS, SMS, "a", "", ""): (9, 3, 1), (old, SMS, "a", "", ""): (9, 3, 1)}, funnel=funnel)
    materialize(either, NOW)
    late = {(old + 5 * number * MINUTE_MS, SMS, "a", "", ""): (1, 1, 0) for number in range(201)}
    count_in(either, late, funnel=funnel)
    trust = "SELECT level, through, cardinality(changed) AS changed FROM rollup_trust WHERE level <> '1d' ORDER BY 1"
    hours, minutes = rows(either, trust)
    assert (minutes["through"], minutes["changed"], hours["changed"]) == (at(old), 0, 17)
    agree(either)
    materialize(either, NOW)
    assert [row["changed"] for row in rows(either, trust)] == [0, 0]
    agree(either)


def test_what_is_not_closed_yet_is_not_materialized(either: Database, funnel: str) -> None:
    """While a backlog is being counted, its windows are not late for the rollups."""
    through = "SELECT materialized_through FROM rollup_progress WHERE level = '5m'"
    closed = TODAY - 300 * DAY_MS
    count_in(either, {(closed, SMS, "a", "", ""): (9, 3, 1)}, funnel=funnel, closed_through=closed)
    materialize(either, NOW)
    assert rows(either, through) == [{"materialized_through": at(closed)}]
    agree(either)
    with either.transaction() as cursor:
        cursor.execute("DELETE FROM funnel_progress")
    materialize(either, NOW)
    settled = NOW - HOUR_MS
    assert rows(either, through) == [{"materialized_through": at(settled - settled % (5 * MINUTE_MS))}]
    agree(either)


def test_a_gap_of_years_takes_one_piece(either: Database, funnel: str) -> None:
    """A level has a piece on each side of the gap, and an empty one that shows that there is a gap."""
    old = TODAY - 3 * 365 * DAY_MS
    count_in(either, {(day, SMS, "a", "", ""): (9, 3, 1) for day in (old, TODAY - 2 * DAY_MS)}, funnel=funnel)
    # The gap before the newest windows is found in the same way.
    assert materialize(either, NOW) <= 3 * 3 + 2
    agree(either)
    count_in(either, {(old + 500 * DAY_MS, SMS, "a", "", ""): (9, 3, 1)}, funnel=funnel)
    assert materialize(either, NOW) == 3
    assert notes(either) == []
    agree(either)


def test_buckets_of_a_gap_whose_windows_were_deleted_by_hand_go(either: Database, funnel: str) -> None:
    """A piece that spans a gap clears it."""
    days = [TODAY - ago * DAY_MS for ago in (400, 200, 2)]
    count_in(either, {(day, SMS, "a", "", ""): (9, 3, 1) for day in days}, funnel=funnel)
    materialize(either, NOW)
    rows(either, "DELETE FROM window_counts WHERE window_start = %s", at(days[1]))
    materialize(either, NOW)
    assert [row["window_start"] for row in rows(either, "SELECT window_start FROM rollup_1h ORDER BY 1")] == [
        at(days[0]),
        at(days[2]),
    ]
    agree(either)


def test_a_flush_that_is_under_way_is_waited_for_before_more_is_materialized(sessions: Database, funnel: str) -> None:
    """It has noted nothing, because nothing was materialized; so what it counts has to be there first."""
    done = threading.Event()

    def other() -> None:
        with closing(Database(sessions.url, application="other")) as database:
            materialize(database, NOW)
            done.set()

    thread = threading.Thread(target=other)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'other' AND wait_event = 'advisory'"
    with closing(Database(sessions.url)) as watching:
        added = StoredIds(sessions).numbered(WindowCounts.of(*counted(funnel, TODAY - 4 * DAY_MS, 5)))
        with sessions.transaction() as cursor:
            run(cursor, "hold_closer_off")
            add_counts(cursor, added)
            thread.start()
            while not rows(watching, waiting):
                assert not done.is_set()
                time.sleep(0.01)
        thread.join()
    assert notes(sessions) == []
    agree(sessions)


def test_two_materialize_and_drop_while_others_count_and_look(sessions: Database) -> None:
    """Each statement of a reader finds every level in agreement while two drop, too; nothing is lost in the end."""
    keep_for(sessions, KEPT)
    stop, failures = threading.Event(), list[BaseException]()

    def again_and_again(action: Callable[[Database], object]) -> None:
        with closing(Database(sessions.url)) as database:
            try:
                while not stop.is_set():
                    action(database)
            except BaseException as error:  # noqa: BLE001 - told by the test
                failures.append(error)
                stop.set()

    def count(scenario: Scenario, _: Database) -> None:
        scenario.count()

    def maintain(database: Database) -> None:
        materialize(database, NOW)
        drop_expired(database, NOW)

    scenarios = [Scenario(Database(sessions.url), seed) for seed in (11, 12)]
    actions: list[Callable[[Database], object]] = [partial(count, scenario) for scenario in scenarios]
    actions += [maintain] * 2
    threads = [threading.Thread(target=again_and_again, args=[action]) for action in actions]
    for thread in threads:
        thread.start()
    try:
        for look in range(8):
            agree(sessions, look)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for scenario in scenarios:
            scenario.database.close()
    assert failures == []
    agree(sessions)
    materialize(sessions, NOW)
    assert notes(sessions) == []
    agree(sessions)


def test_a_level_that_somebody_is_at_is_left_alone(sessions: Database, funnel: str) -> None:
    """Neither another worker nor an edit that is under way is waited for."""
    count_in(sessions, {(TODAY - 2 * DAY_MS, SMS, "a", "", ""): (9, 3, 1)}, funnel=funnel)
    with closing(Database(sessions.url)) as other:
        with other.transaction() as cursor:
            run(cursor, "lock_rollups", {"level": "1h"})
            assert materialize(sessions, NOW) == 0
        with other.transaction() as cursor:
            cursor.execute("UPDATE window_counts SET impressions = impressions")
            assert materialize(sessions, NOW) == 0
        agree(sessions)
    assert materialize(sessions, NOW) > 0
