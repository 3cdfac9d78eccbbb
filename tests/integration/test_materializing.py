"""Rollups on plain PostgreSQL show what their windows show, at every moment, whatever is materialized."""

from __future__ import annotations

import random
import threading
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import pytest

from funnelwatch.schemas.counts import PartitionCounts
from funnelwatch.schemas.times import HOUR_MS
from funnelwatch.sinks.timescale.counts import CountStore, add_counts
from funnelwatch.sinks.timescale.database import Database, run
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.repairs import RepairStore
from funnelwatch.sinks.timescale.retention import Retention, archive, set_retention
from tests.filling import MINUTE_MS, count_in
from tests.integration.test_views import DAY_MS, SMS, at, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from funnelwatch.schemas.counts import Counts, Durations

NOW = int(time.time() * 1000)
TODAY = NOW - NOW % DAY_MS
KEPT = Retention(windows=30, five_minutes=60, hours=100, days=200)

COUNTS = ("impressions", "successes", "failures", "cohort_successes", "cohort_failures")
SLOTS = tuple(f"n{slot}" for slot in range(8))
SERIES = ("funnel", "step", "os", "browser", "app_version")
WIDTHS = {"5m": "5 minutes", "1h": "1 hour", "1d": "1 day"}


def disagreement(what: str, level: str) -> str:
    """A statement for the rows by which a level differs from its windows and archives, added up in the plainest way."""
    levels = list(WIDTHS)[: list(WIDTHS).index(level) + 1]
    archive_of = "archived_durations_" if what == "durations" else "archived_"
    keys, numbers = ((*SERIES, "octave"), SLOTS) if what == "durations" else (SERIES, COUNTS)
    parts = [f"SELECT * FROM window_{what}", *(f"SELECT * FROM {archive_of}{finer}" for finer in levels)]
    by_hand = (
        f"SELECT date_bin('{WIDTHS[level]}', window_start, '2000-01-01 00:00:00Z'), {', '.join(keys)}, "
        f"{', '.join(f'sum({number})::bigint' for number in numbers)} FROM ({' UNION ALL '.join(parts)}) AS parts "
        f"GROUP BY {', '.join(map(str, range(1, len(keys) + 2)))}"
    )
    columns = ", ".join(("window_start", *keys, *numbers))
    # Rows of the one count 1, of the other -1: a bucket that is there twice is a difference as well.
    return (
        f"SELECT {columns}, sum(side) AS surplus FROM (SELECT *, 1 AS side FROM {what}_{level} "
        f"UNION ALL SELECT *, -1 FROM ({by_hand}) AS by_hand) AS sides GROUP BY {columns} HAVING sum(side) <> 0"
    )


LOOKS = [disagreement(what, level) for what in ("counts", "durations") for level in WIDTHS]


def agree(database: Database, after: object = None, looks: Sequence[str] = LOOKS) -> None:
    """Every level shows what its windows show; each is looked at in one statement, so at one moment."""
    for look in looks:
        assert rows(database, look) == [], f"after {after}: {look}"


def notes(database: Database) -> list[tuple[str, int]]:
    """Level and bucket of what is noted as changed."""
    return [
        (row["level"], int(row["window_start"].timestamp() * 1000))
        for row in rows(database, "SELECT * FROM rollup_invalidations ORDER BY level, window_start")
    ]


def counted(funnel: str, window: int, number: int, os: str = "iOS") -> tuple[Counts, Durations]:
    """One series in one window."""
    key = (window, funnel, SMS, os, "", "1.0")
    return {key: [3 * number, 2 * number, number, number, 0]}, {(*key, 3): [number] * 8}


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
        for _ in range(self.chance.randrange(1, 5)):
            some = counted(self.funnel, self.a_window(), self.chance.randrange(1, 9), self.chance.choice("abc"))
            counts.update(some[0])
            durations.update(some[1])
        start = self.store.start(self.funnel, "id", {0: 0})[0].next_offset
        self.store.flush(self.funnel, "id", [PartitionCounts(0, start, start + 1, counts, durations=durations)])

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
                "UPDATE window_counts SET impressions = impressions + 1 WHERE os = %s",
                "DELETE FROM window_durations WHERE os = %s",
                "INSERT INTO window_counts VALUES (now() - INTERVAL '9 days', 'f', 'a', %s, '', '')",
            )
        )
        with self.database.transaction() as cursor:
            cursor.execute(statement, [self.chance.choice("abc")])

    def materialize(self) -> None:
        """By a clock that may be behind, to the end or not."""
        pieces = self.chance.choice((1, 2, 9, 10**6))
        go_on = iter(range(pieces - 1))
        now = NOW - self.chance.choice((0, 0, HOUR_MS, 3 * DAY_MS))
        materialize(self.database, now, lambda: next(go_on, None) is not None)

    def die(self) -> None:
        """Materialize or archive until the server ends it anywhere."""
        doomed = Database(self.database.url)
        try:
            doomed.connection().execute(f"SET statement_timeout = '{self.chance.choice((1, 2, 3))}ms'")  # type: ignore[arg-type]
            self.chance.choice((materialize, archive))(doomed, NOW)
        except psycopg.errors.QueryCanceled:
            pass
        finally:
            doomed.close()

    def archive(self) -> None:
        """Move what is not kept, or forget it."""
        archive(self.database, NOW)

    def keep(self) -> None:
        """Keep for another time."""
        set_retention(self.database, self.chance.choice((Retention(), KEPT, Retention(35, 35, 60, 0))))

    def things(self) -> Iterator[Callable[[], None]]:
        """What happens."""
        often = [self.count] * 6 + [self.materialize] * 4
        while True:
            yield self.chance.choice([*often, self.repair, self.edit, self.die, self.archive, self.keep])


@pytest.mark.parametrize("seed", range(4))
def test_levels_show_what_their_windows_show_whatever_happens(plain: Database, seed: int) -> None:
    """Counts of any age, repairs, edits by hand, retention, materializing that is ended anywhere; in any order."""
    scenario = Scenario(plain, seed)
    happened = []
    try:
        for thing, _ in zip(scenario.things(), range(45), strict=False):
            thing()
            happened.append(thing.__name__)
            agree(plain, happened, scenario.chance.sample(LOOKS, 2))
        agree(plain, happened)
    finally:
        set_retention(plain, Retention())
    materialize(plain, NOW)
    assert notes(plain) == []
    agree(plain)


def test_events_of_now_note_nothing_and_late_ones_their_buckets_once(plain: Database, funnel: str) -> None:
    """Nothing is paid for what is not materialized; a late window is added up until it is materialized again."""
    old, fresh = TODAY - 3 * DAY_MS, NOW - NOW % MINUTE_MS
    count_in(plain, {(old, SMS, "a", "", ""): (9, 3, 1)}, funnel=funnel)
    materialize(plain, NOW)
    count_in(plain, {(fresh, SMS, "a", "", ""): (9, 3, 1)}, funnel=funnel)
    assert notes(plain) == []
    late = {(old + minutes * MINUTE_MS, SMS, "a", "", ""): (1, 1, 0) for minutes in (0, 1, 7)}
    count_in(plain, late, funnel=funnel)
    assert notes(plain) == [("1d", old), ("1h", old), ("5m", old), ("5m", old + 5 * MINUTE_MS)]
    agree(plain)
    assert materialize(plain, NOW) == 3
    assert notes(plain) == []
    agree(plain)


def test_more_changes_than_a_list_should_have_are_added_up_too(plain: Database, funnel: str) -> None:
    """From the oldest of them on nothing is taken from the tables then, at that level."""
    old = TODAY - 6 * DAY_MS
    count_in(plain, {(old - DAY_MS, SMS, "a", "", ""): (9, 3, 1), (old, SMS, "a", "", ""): (9, 3, 1)}, funnel=funnel)
    materialize(plain, NOW)
    late = {(old + 5 * number * MINUTE_MS, SMS, "a", "", ""): (1, 1, 0) for number in range(201)}
    count_in(plain, late, funnel=funnel)
    trust = "SELECT level, through, cardinality(changed) AS changed FROM rollup_trust WHERE level <> '1d' ORDER BY 1"
    hours, minutes = rows(plain, trust)
    assert (minutes["through"], minutes["changed"], hours["changed"]) == (at(old), 0, 17)
    agree(plain)
    materialize(plain, NOW)
    assert [row["changed"] for row in rows(plain, trust)] == [0, 0]
    agree(plain)


def test_what_is_not_closed_yet_is_not_materialized(plain: Database, funnel: str) -> None:
    """While a backlog is being counted, its windows are not late for the rollups."""
    through = "SELECT materialized_through FROM rollup_progress WHERE level = '5m'"
    with plain.transaction() as cursor:
        cursor.execute(
            "UPDATE rollup_progress SET materializing_through = '-infinity', materialized_through = '-infinity'"
        )
        cursor.execute("DELETE FROM funnel_progress")
    closed = TODAY - 300 * DAY_MS
    count_in(plain, {(closed, SMS, "a", "", ""): (9, 3, 1)}, funnel=funnel, closed_through=closed)
    materialize(plain, NOW)
    assert rows(plain, through) == [{"materialized_through": at(closed)}]
    agree(plain)
    with plain.transaction() as cursor:
        cursor.execute("DELETE FROM funnel_progress")
    materialize(plain, NOW)
    settled = NOW - HOUR_MS
    assert rows(plain, through) == [{"materialized_through": at(settled - settled % (5 * MINUTE_MS))}]
    agree(plain)


def test_a_flush_that_is_under_way_is_waited_for_before_more_is_materialized(plain: Database, funnel: str) -> None:
    """It has noted nothing, because nothing was materialized; so what it counts has to be there first."""
    with plain.transaction() as cursor:
        cursor.execute(
            "UPDATE rollup_progress SET materializing_through = '-infinity', materialized_through = '-infinity'"
        )
    done = threading.Event()

    def other() -> None:
        with closing(Database(plain.url, application="other")) as database:
            materialize(database, NOW)
            done.set()

    thread = threading.Thread(target=other)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'other' AND wait_event = 'advisory'"
    with closing(Database(plain.url)) as watching:
        with plain.transaction() as cursor:
            run(cursor, "hold_closer_off")
            add_counts(cursor, counted(funnel, TODAY - 4 * DAY_MS, 5)[0])
            thread.start()
            while not rows(watching, waiting):
                assert not done.is_set()
                time.sleep(0.01)
        thread.join()
    assert notes(plain) == []
    agree(plain)


def test_two_materialize_while_others_count_and_look(plain: Database) -> None:
    """Each statement of a reader finds levels and windows in agreement, and nothing is lost in the end."""
    stop, failures = threading.Event(), list[BaseException]()

    def again_and_again(action: Callable[[Database], object]) -> None:
        with closing(Database(plain.url)) as database:
            try:
                while not stop.is_set():
                    action(database)
            except BaseException as error:  # noqa: BLE001 - told by the test
                failures.append(error)
                stop.set()

    def count(scenario: Scenario, _: Database) -> None:
        scenario.count()

    scenarios = [Scenario(Database(plain.url), seed) for seed in (11, 12)]
    actions = [partial(count, scenario) for scenario in scenarios]
    actions += [lambda database: materialize(database, NOW)] * 2
    threads = [threading.Thread(target=again_and_again, args=[action]) for action in actions]
    for thread in threads:
        thread.start()
    try:
        for look in range(8):
            agree(plain, look)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for scenario in scenarios:
            scenario.database.close()
    assert failures == []
    agree(plain)
    materialize(plain, NOW)
    assert notes(plain) == []
    agree(plain)


def test_a_level_that_somebody_is_at_is_left_alone(plain: Database, funnel: str) -> None:
    """Neither another worker nor an edit that is under way is waited for."""
    count_in(plain, {(TODAY - 2 * DAY_MS, SMS, "a", "", ""): (9, 3, 1)}, funnel=funnel)
    with closing(Database(plain.url)) as other:
        with other.transaction() as cursor:
            run(cursor, "lock_rollups", {"level": "1h"})
            assert materialize(plain, NOW) == 0
        with other.transaction() as cursor:
            cursor.execute("UPDATE window_counts SET impressions = impressions")
            assert materialize(plain, NOW) == 0
        agree(plain)
    assert materialize(plain, NOW) > 0
