"""``funnelwatch rebuild windows`` on real servers: damaged counts are exact again, while a worker counts on."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from confluent_kafka import TopicPartition

from funnelwatch.schemas.counts import CountRow, Series
from funnelwatch.schemas.histogram import SLOTS
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.times import iso
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.redis.cache import CountCache, IncompleteError
from funnelwatch.sinks.timescale import repairs
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.repairs import RepairStore
from funnelwatch.sinks.timescale.series import series_ids
from funnelwatch.stream.closing.windows import Assembler
from tests.by_hand import counts_by_hand
from tests.command import run, succeed, succeed_json
from tests.own import own_database, settings_of
from tests.stack import apache_is_wanted, wait_until
from tests.traffic import (
    admin,
    closed_windows,
    counted,
    done,
    event,
    naive_durations,
    now_ms,
    prepared,
    produce,
    row_of,
    some_events,
)
from tests.worker import Worker, worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

    from funnelwatch.schemas.settings import Settings
    from tests.stack import Servers

QUICK = {
    "allowed_disorder_s": 0.5,
    "idle_timeout_s": 1.0,
    "window_s": 10,
    "late_settle_s": 0.5,
}

READ_AGAIN_S = 0.5
"""Pause between two looks at a whole topic or a whole table: each takes the processor from the worker."""

OLD_TOTALS = """
SELECT coalesce(sum(impressions + successes + failures), 0)::bigint AS events, count(*) AS series
FROM conversion
WHERE app_version = 'old'
"""


def of_series(condition: str) -> str:
    """The part of a statement that chooses rows of ``window_counts`` by what their series is."""
    return f"WHERE series_id IN (SELECT series_id FROM series WHERE {condition})"


OF_IOS = of_series("dimensions ->> 'os' = 'iOS'")


class Repaired:
    """A ledger of what was produced, a worker that counts it, and what is done to its counts."""

    def __init__(self, settings: Settings, database: Database, one: Worker) -> None:
        self.settings = settings
        self.database = database
        self.worker = one
        self.begin = now_ms() // 10_000 * 10_000 - 300_000
        self.ledger: list[dict[str, Any]] = []
        self.more = 0

    def send(self, events: list[dict[str, Any]], *, again: int = 0) -> None:
        """Produce events, the first few of them twice."""
        self.ledger += events
        self.more += again
        produce(self.settings, events + events[:again])

    def settle(self) -> None:
        """Wait until everything is counted."""
        records = len(self.ledger) + self.more
        wait_until(lambda: done(self.settings, records) or not self.worker.running, f"{records} records", 120)
        assert self.worker.running, self.worker.text()

    def execute(self, statement: str) -> int:
        """How many rows a statement has changed."""
        cursor = self.database.connection().execute(statement)  # type: ignore[call-overload]
        return int(cursor.rowcount)

    def invent(self, series: Series, impressions: int) -> None:
        """Add a row of a series, in the oldest window."""
        with self.database.transaction() as cursor:
            number = series_ids(cursor, {series})[series]
        values = f"{number}, {impressions}, 0, 0, 0, 0"
        self.execute(f"INSERT INTO window_counts SELECT min(window_start), {values} FROM window_counts")

    def rebuild(self, *more: str) -> Result:
        """The command over everything that the ledger has."""
        return run(self.settings, *self.arguments(*more))

    def arguments(self, *more: str) -> tuple[str, ...]:
        """The command's; cohorts begin before the first event."""
        return "rebuild", "windows", "--from", iso(self.begin - 60_000), "--to", "now", *more

    @property
    def right(self) -> dict[Any, list[int]]:
        """What should be counted."""
        return counts_by_hand(self.ledger, self.settings.window_ms)


@contextmanager
def counting(settings: Settings) -> Iterator[Repaired]:
    """A worker that has counted a few thousand events of the last five minutes."""
    quick = prepared(settings.model_copy(update=QUICK))
    with closing(Database(quick.timescale_url)) as database, worker(quick) as one:
        migrate(database, quick.window_ms)
        found = Repaired(quick, database, one)
        old = some_events(2_000, seed=1, begin=found.begin, spread_ms=60_000)
        found.send([one | {"app_version": "old"} for one in old], again=50)
        found.settle()
        yield found


@pytest.fixture
def own(settings: Settings) -> Iterator[Repaired]:
    """A worker for a test that ends it, or after which the topic is not as it was."""
    with counting(settings) as found:
        yield found


@pytest.fixture(scope="module")
def shared(stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repaired]:
    """A worker for the tests after which all is right again."""
    with own_database(stack) as url, counting(settings_of(stack, url, tmp_path_factory.mktemp("shared"))) as found:
        yield found


@pytest.fixture
def repaired(shared: Repaired) -> Repaired:
    """The shared worker, whose counts are right."""
    assert shared.worker.running, shared.worker.text()
    assert counted(shared.settings) == shared.right
    return shared


def in_redis(settings: Settings) -> dict[Any, list[int]]:
    """What the cache has of the windows that the database has."""
    shown: dict[Any, list[int]] = {}
    with closing(CountCache(settings.redis_url, settings.redis_prefix, settings.cache_horizon_s)) as cache:
        for window in {key[0] for key in counted(settings)}:
            shown |= {(window, series): list(tally) for series, tally in cache.read("sign_up", window).items()}
    return shown


def published(settings: Settings) -> dict[Any, tuple[int, list[int]]]:
    """The last revision of each series of a closed window, and its tally."""
    assembler = Assembler()
    windows = [window for record in closed_windows(settings) if (window := assembler.add(record))]
    last: dict[int, Any] = {}
    for window in windows:
        if window.window_start not in last or window.revision >= last[window.window_start].revision:
            last[window.window_start] = window
    return {
        (start, series): (window.revision, list(tally))
        for start, window in last.items()
        for series, tally in window.series.items()
        if tally != CountRow()
    }


def test_damaged_counts_are_exact_again_while_a_worker_counts_live_traffic(own: Repaired) -> None:
    """Rows deleted, doubled and invented; late and new events all the while; no reader sees anything in between."""
    settings = own.settings
    over = threading.Event()
    seen: set[tuple[int, int]] = set()

    def poll() -> None:
        with psycopg.connect(revealed(settings.timescale_url), autocommit=True) as reader:
            while not over.wait(0.01):  # a reader without a pause takes the processor from the worker
                row = reader.execute(OLD_TOTALS).fetchone()
                assert row is not None
                seen.add((row[0], row[1]))

    def traffic() -> None:
        number = 2
        while not over.wait(0.1):
            late = some_events(40, seed=number, begin=own.begin, spread_ms=200_000)
            own.send([*late, *some_events(20, seed=-number, spread_ms=5_000)], again=5)
            number += 1

    wait_until(
        lambda: (own.begin, "sign_up") in {(key[0], key[1].funnel) for key in published(settings)},
        "windows are closed",
        120,
        READ_AGAIN_S,
    )
    deleted = own.execute(
        "DELETE FROM window_counts " + of_series("dimensions ->> 'app_version' = 'old' AND dimensions ->> 'os' = 'iOS'")
    )
    doubled = own.execute(
        "UPDATE window_counts "
        "SET impressions = 2 * impressions, cohort_failures = 2 * cohort_failures, reached = reached + 1 "
        + of_series("dimensions ->> 'app_version' = 'old' AND step = 'INPUT_NAME'")
    )
    own.invent(Series.of("sign_up", "INPUT_NAME", os="Plan 9", app_version="old"), 7)
    assert min(deleted, doubled) > 10
    before = own.database.connection().execute(OLD_TOTALS).fetchone()
    assert before is not None
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(poll), pool.submit(traffic)]
        try:
            wait_until(lambda: len(own.ledger) > 2_300, "live traffic flows")
            found = succeed_json(settings, *own.arguments("--yes"))
            sent = len(own.ledger)
            wait_until(lambda: len(own.ledger) > sent + 200, "live traffic goes on")
        finally:
            over.set()
        for one in running:
            one.result(120)
    own.settle()
    right = own.right
    assert counted(settings) == right
    assert found["changed_series"] >= deleted + 1
    old = [numbers for key, numbers in right.items() if key[1].value("app_version") == "old"]
    after = (sum(sum(numbers[:3]) for numbers in old), len(old))
    assert seen == {(before["events"], before["series"]), after}
    wait_until(lambda: in_redis(settings) == right, "the cache equals the database", every_s=READ_AGAIN_S)

    def revised() -> bool:
        last = published(settings)
        return all(
            last.get(key, (0, []))[1] == right[key] for key in right if key[1].value("app_version") == "old"
        ) and not any(key[1].value("os") == "Plan 9" for key in last)

    wait_until(revised, "the closed windows are published again", every_s=READ_AGAIN_S)
    assert min(published(settings)[key][0] for key in right if key[1].value("app_version") == "old") >= 1
    again = succeed_json(settings, *own.arguments("--yes"))
    assert (again["changed_series"], again["published_again"]) == (0, 0)
    assert counted(settings) == right


def test_a_dry_run_tells_what_would_change_and_changes_nothing(repaired: Repaired) -> None:
    """The windows, what is counted and what is missing; the counts stay as they are, also where a person says no."""
    lost = repaired.execute(f"DELETE FROM window_counts {OF_IOS}")
    damaged = counted(repaired.settings)
    found = succeed_json(repaired.settings, *repaired.arguments("--dry-run"))
    assert (found["changed_series"], found["published_again"], found["dry_run"]) == (lost, 0, True)
    changes = sum(window["change"]["impressions"] for window in found["windows"])
    assert changes == sum(numbers[0] for numbers in repaired.right.values()) - sum(one[0] for one in damaged.values())
    declined = run(repaired.settings, *repaired.arguments(), stdin="n\n")
    assert (declined.exit_code, f"Correct {lost:,} series of windows?" in declined.stderr) == (1, True)
    assert "→" in declined.stdout
    assert counted(repaired.settings) == damaged
    assert "series of windows corrected" in succeed(repaired.settings, *repaired.arguments("--yes"))
    assert counted(repaired.settings) == repaired.right


def test_an_interrupt_at_any_moment_leaves_everything_as_it_was(
    repaired: Repaired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before, in the middle and at the end of the one transaction; afterwards the repair still works."""
    repaired.execute(f"DELETE FROM window_counts {OF_IOS}")
    damaged = counted(repaired.settings)
    real = repairs.run
    for moment in ("one_snapshot", "one_repair_at_a_time", "remove_empty", "note_repair"):

        def interrupted(cursor: Any, name: str, parameters: Any = None, moment: str = moment) -> Any:
            if name == moment:
                raise KeyboardInterrupt
            return real(cursor, name, parameters)

        with monkeypatch.context() as broken:
            broken.setattr(repairs, "run", interrupted)
            assert repaired.rebuild("--yes").exit_code == 1
        assert counted(repaired.settings) == damaged
    assert repaired.rebuild("--yes").exit_code == 0
    assert counted(repaired.settings) == repaired.right


def test_durations_that_were_damaged_are_put_right_though_the_counts_are(repaired: Repaired) -> None:
    """Rows lost, doubled and invented; the same again finds nothing to do."""
    store = CountStore(repaired.database)
    right = naive_durations(repaired.ledger, repaired.settings.window_ms)
    assert store.durations(0, 2**45) == right
    slots = [f"d{slot}" for slot in range(SLOTS)]
    repaired.execute(f"UPDATE window_counts SET {', '.join(f'{slot} = NULL' for slot in slots)} {OF_IOS}")
    doubled = of_series("dimensions ->> 'os' = 'Android'")
    repaired.execute(f"UPDATE window_counts SET {', '.join(f'{slot} = 2 * {slot}' for slot in slots)} {doubled}")
    repaired.execute(f"UPDATE window_counts SET d7 = coalesce(d7, 0) + 1 {doubled}")
    found = json.loads(repaired.rebuild("--yes", "--json").stdout)
    assert found["changed_durations"] == found["changed_series"] > 0
    assert store.durations(0, 2**45) == right
    assert json.loads(repaired.rebuild("--yes", "--json").stdout)["changed_series"] == 0


def test_of_two_repairs_at_a_time_one_is_written(repaired: Repaired) -> None:
    """A correction that was worked out before another was written would be added a second time: it is rejected."""
    repaired.execute(f"DELETE FROM window_counts {OF_IOS}")
    store = RepairStore(repaired.database)
    before = store.snapshot(repaired.settings.events_topic, repaired.begin, now_ms())
    assert repaired.rebuild("--yes").exit_code == 0
    key = next(iter(before.counts))
    with pytest.raises(repairs.RepairedMeanwhileError):
        store.correct(repaired.settings.events_topic, (0, 1), before, {key: row_of(1)}, {})
    now = store.snapshot(repaired.settings.events_topic, repaired.begin, now_ms())
    with pytest.raises(repairs.DamagedMeanwhileError):
        store.correct(repaired.settings.events_topic, (0, 1), now, {key: row_of(-1_000)}, {})
    with pytest.raises(repairs.DamagedMeanwhileError):
        store.correct(repaired.settings.events_topic, (0, 1), now, {key: row_of(0, 0, 0, 0, 0, 0, 0, 0, -1_000)}, {})
    took = next(iter(now.durations))
    with pytest.raises(repairs.DamagedMeanwhileError):
        store.correct(repaired.settings.events_topic, (0, 1), now, {}, {took: [-1_000]})
    assert counted(repaired.settings) == repaired.right


def test_replayed_dead_letters_are_counted_once_and_others_not_at_all(own: Repaired, settings: Settings) -> None:
    """A step is declared after its events were rejected; a replayed one counts once, though its id is there twice."""
    quick = own.settings
    rejected = [event(step="CAPTCHA", ts=own.begin + number) for number in range(3)]
    produce(quick, rejected)
    own.more += 3
    own.settle()
    own.worker.stop()
    funnels = settings.data_dir / "funnels.yml"
    steps = "[INPUT_PHONE_NUMBER, VERIFY_SMS_CODE, INPUT_NAME, INPUT_PASSWORD, CAPTCHA]"
    funnels.write_text(f"funnels:\n  sign_up: {steps}\n")
    wider = quick.model_copy(update={"funnels_path": funnels, "duplicate_horizon_s": 0.0})
    own.settings = wider
    with worker(wider) as one:
        own.worker = one
        assert succeed_json(wider, "dead-letters", "replay", "--yes")["produced"] == 3
        own.ledger += rejected
        own.settle()
        produce(wider, [event(step="PUZZLE", ts=own.begin)])
        own.more += 1
        own.settle()
        own.ledger += own.ledger[:50]  # without a horizon the repetitions at the beginning count
        own.execute("DELETE FROM window_counts")
        before = own.rebuild("--yes")
        assert before.exit_code == 0, before.output
    assert counted(wider) == own.right


def test_rules_that_would_reject_what_was_counted_are_told(repaired: Repaired, settings: Settings) -> None:
    """With other funnels than the workers' nothing is changed: the counts would be lost."""
    funnels = settings.data_dir / "narrow.yml"
    funnels.write_text("funnels:\n  sign_up: [INPUT_PHONE_NUMBER]\n")
    before = counted(repaired.settings)
    narrow = repaired.settings.model_copy(update={"funnels_path": funnels})
    result = run(narrow, *repaired.arguments("--yes"))
    assert (result.exit_code, "would be rejected by this command's settings" in result.stderr) == (1, True)
    assert "UNKNOWN_STEP" in result.stderr
    assert counted(repaired.settings) == before


def test_a_total_from_before_the_repair_cannot_raise_the_cache_again(repaired: Repaired) -> None:
    """A writer that was frozen with the doubled totals in its hands is rejected until it has rebuilt."""
    settings = repaired.settings
    with closing(CountCache(settings.redis_url, settings.redis_prefix, settings.cache_horizon_s)) as frozen:
        wait_until(partial(frozen.is_whole), "the copy is whole")
        repaired.execute("UPDATE window_counts SET impressions = 2 * impressions")
        doubled = counted(settings)
        frozen.rebuild([], now_ms())
        assert repaired.rebuild("--yes").exit_code == 0
        with pytest.raises(IncompleteError):
            frozen.write(WindowCounts.of(doubled), now_ms())
        wait_until(
            lambda: in_redis(settings) == counted(settings) == repaired.right,
            "Redis equals the database",
            every_s=READ_AGAIN_S,
        )


def test_redis_that_is_away_is_told_and_the_next_run_mends_it(repaired: Repaired) -> None:
    """The database is repaired; the sentence says that the cache is not, and the same command again does it."""
    settings = repaired.settings
    repaired.execute("UPDATE window_counts SET impressions = 2 * impressions")
    repaired.send([event(app_version="old", ts=repaired.begin + 5)])
    repaired.settle()
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    result = run(away, *repaired.arguments("--yes"))
    assert (result.exit_code, "run the same command again" in result.stderr) == (1, True)
    assert counted(settings) == repaired.right
    assert "the counts are right" in succeed(settings, *repaired.arguments("--yes"))
    wait_until(lambda: in_redis(settings) == repaired.right, "Redis equals the database")


def test_what_the_topic_no_longer_holds_is_rejected(own: Repaired) -> None:
    """Retention: which partition begins when, and from which window on it can be done."""
    if not apache_is_wanted():
        pytest.skip("Tansu cannot trim a topic")
    settings = own.settings
    low = TopicPartition(settings.events_topic, 2, 5)
    kafka = admin(settings)
    kafka.delete_records([low])[low].result(60)
    result = own.rebuild("--yes")
    assert (result.exit_code, f"partition 2 of {settings.events_topic} begins at" in result.stderr) == (1, True)
    assert "can be recounted: --from" in result.stderr
    assert counted(settings) == own.right


def test_a_topic_that_was_made_anew_is_rejected(own: Repaired) -> None:
    """Before and after its progress was set: what was counted of the earlier log is not in this one."""
    settings = own.settings
    own.worker.stop()
    topic = own.settings.events_topic
    own.execute(f"UPDATE stream_progress SET topic_id = 'of before' WHERE partition = 1 AND topic = '{topic}'")
    result = own.rebuild("--yes")
    assert (result.exit_code, "partition 1: counted up to" in result.stderr) == (1, True)
    assert "of another topic of this name" in result.stderr
    succeed(settings, "rebuild", "progress", "--yes")
    result = own.rebuild("--yes")
    assert (result.exit_code, "it was made anew" in result.stderr) == (1, True)
    assert counted(settings) == own.right


def test_a_range_in_the_future_or_the_wrong_way_round_is_a_mistake(settings: Settings) -> None:
    """Exit code 2, and what is wrong; no server is asked."""
    later = iso(now_ms() + 3_600_000)
    for since, until, told in (
        (later, iso(now_ms() + 7_200_000), "is in the future"),
        ("1h", later, "ends in the future"),
        ("1h", "2h", "is not before --to"),
    ):
        result = run(settings, "rebuild", "windows", "--from", since, "--to", until)
        assert (result.exit_code, told in result.stderr) == (2, True), result.output
    result = run(settings, "rebuild", "windows", "--from", "1h", "--to", "now", "--json")
    assert (result.exit_code, "add --yes or --dry-run" in result.stderr) == (2, True)


def test_a_topic_of_which_nothing_was_counted_is_told(settings: Settings) -> None:
    """There is nothing to recount."""
    result = run(prepared(settings), "rebuild", "windows", "--from", "1h", "--to", "now", "--yes")
    assert (result.exit_code, "there is nothing to recount" in result.stderr) == (1, True), result.output
