"""The rebuild of the cache beside the counting: bounded, newest first, and of what is missing only.

Everything is in memory and nothing sleeps: rows and rounds are counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.schemas.counts import PartitionCounts, Series
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.stream.aggregate import cache_check, cache_rebuild
from tests.property.pipeline_model import SETTINGS, START, Scenario
from tests.traffic import row_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.counts import Counts
    from funnelwatch.stream.intake.polled_batch import ValidatedPoll
    from tests.property.pipeline_model import Worker

SERIES = 20
WINDOWS = 120
ROWS_AT_ONCE = 100
WINDOW_MS = SETTINGS.window_ms
LATEST = START - START % WINDOW_MS - WINDOW_MS


@pytest.fixture
def scenario(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scenario]:
    """Two partitions, and counts of 120 windows of 20 series in the database; Redis is empty; steps are small."""
    monkeypatch.setattr(cache_rebuild, "ROWS_AT_ONCE", ROWS_AT_ONCE)
    scenario = Scenario(2)
    scenario.store.start("events", "t", {0: 0, 1: 0})
    for at in range(WINDOWS):
        counts: Counts = {
            (LATEST - at * WINDOW_MS, Series.of("sign_up", f"S{number}", os="iOS")): row_of(1)
            for number in range(SERIES)
        }
        scenario.store.flush("events", "t", [PartitionCounts(0, at, at + 1, WindowCounts.of(counts), accepted=SERIES)])
    for message in range(WINDOWS):
        scenario.broker.append(0, b"garbage", START, 0)
        assert scenario.broker.ends[0] == message + 1
    yield scenario
    scenario.close()


def started(scenario: Scenario, *partitions: int) -> Worker:
    """A worker that has just been given partitions."""
    worker = scenario.worker()
    worker.consumer.to_assign = list(partitions)
    worker.fetcher.fetch()
    return worker


def count(scenario: Scenario, worker: Worker, verdict: str = "-") -> None:
    """One more event of the first partition, read and counted."""
    number = scenario.broker.ends[0]
    scenario.broker.append(0, f"{number} {scenario.now_ms} {verdict} 1".encode(), scenario.now_ms, 0)
    for _ in range(200):  # what the last worker counted is read again, for its event ids
        fetch: ValidatedPoll = worker.validation(worker.fetcher.fetch())
        worker.aggregator([fetch])
        if fetch.batches:
            return
    raise AssertionError("the event is not read")


def rows_copied(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each write to Redis has from now on."""
    written: list[int] = []
    real = scenario.cache.write

    def counted(totals: Counts, *more: Any, **named: Any) -> bool:
        written.append(len(totals))
        return real(totals, *more, **named)

    monkeypatch.setattr(scenario.cache, "write", counted)
    return written


def copy_all(scenario: Scenario, *workers: Worker) -> None:
    """Let the rebuilds go on until they check a few times and find nothing."""
    for _ in range(8):
        scenario.clock.now += cache_check.CHECK_EVERY_S
        for worker in workers:
            for _ in range(400):
                if worker.rebuild.step() > cache_rebuild.RETRY_S:
                    break
    assert all(worker.debt.settled for worker in workers)
    assert scenario.cache.counts == scenario.store.counts
    assert scenario.cache.state().is_whole(scenario.cache.oldest(START))


def test_a_flush_writes_its_own_rows_only_however_much_the_cache_lacks(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a start with 2,400 rows to copy a flush is counted and in Redis before the first of them is."""
    worker = started(scenario, 0, 1)
    written = rows_copied(scenario, monkeypatch)
    for _ in range(10):
        count(scenario, worker)
    assert sum(written) == 0, "Redis was not asked: nobody knows yet whether it answers"
    assert worker.aggregator.counted == 10
    worker.rebuild.step()
    count(scenario, worker)
    assert written == [1]
    assert worker.aggregator.counted == 11
    copy_all(scenario, worker)


def test_a_database_that_does_not_answer_the_rebuild_holds_no_flush_up(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rebuild is in the middle of a read for as long as ten flushes take; each of them is in Redis at once."""
    worker = started(scenario, 0, 1)
    worker.rebuild.step()
    source: Any = worker.rebuild._source
    real = source.read
    counted: list[int] = []

    def slow(*arguments: Any) -> Counts:
        if not counted:
            for _ in range(10):
                count(scenario, worker)
                counted.append(worker.aggregator.counted)
        return real(*arguments)  # type: ignore[no-any-return]

    monkeypatch.setattr(source, "read", slow)
    copy_all(scenario, worker)
    assert counted == list(range(1, 11))


def test_the_newest_windows_are_copied_first_and_readers_have_them_at_once(scenario: Scenario) -> None:
    """A few steps after the loss of everything a reader of the last windows uses Redis, one of older ones does not."""
    worker = started(scenario, 0, 1)
    for _ in range(12):
        worker.rebuild.step()
    state = scenario.cache.state()
    assert state.is_whole(LATEST - 5 * WINDOW_MS)
    assert not state.is_whole(LATEST - WINDOWS * WINDOW_MS)
    shown = {key: tally for key, tally in scenario.cache.counts.items() if key[0] >= LATEST - 5 * WINDOW_MS}
    assert shown == {key: tally for key, tally in scenario.store.counts.items() if key[0] >= LATEST - 5 * WINDOW_MS}


def test_a_step_is_bounded_however_many_series_a_window_has(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No write of the rebuild is much larger than it should be, so that it stops soon when it is asked to."""
    written = rows_copied(scenario, monkeypatch)
    copy_all(scenario, started(scenario, 0, 1))
    assert max(written) <= 2 * ROWS_AT_ONCE
    assert sum(written) == SERIES * WINDOWS


@pytest.mark.parametrize("how", ["a restart", "a rebalance", "killed and started"])
def test_nothing_is_copied_where_redis_has_everything(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Whoever takes partitions over from a worker that left nothing out sees that by the marks."""
    worker = started(scenario, 0, 1)
    copy_all(scenario, worker)
    count(scenario, worker)
    copy_all(scenario, worker)
    written = rows_copied(scenario, monkeypatch)
    if how != "a rebalance":
        worker.rebuild.close()
    other = started(scenario, 0) if how == "a rebalance" else started(scenario, 0, 1)
    copy_all(scenario, other)
    assert sum(written) == 0
    count(scenario, other)
    assert written == [1]


def test_a_gap_that_a_killed_worker_left_is_copied_without_more_events(scenario: Scenario) -> None:
    """It was killed between database and Redis: the mark is behind, and the next worker copies."""
    worker = started(scenario, 0, 1)
    copy_all(scenario, worker)
    key = (LATEST, Series.of("sign_up", "S0", os="iOS"))
    scenario.store.flush(
        "events", "t", [PartitionCounts(0, WINDOWS, WINDOWS + 1, WindowCounts.of({key: row_of(1)}), accepted=1)]
    )
    worker.rebuild.close()
    assert scenario.cache.counts != scenario.store.counts
    copy_all(scenario, started(scenario, 0, 1))


def test_what_a_killed_worker_owed_is_copied_by_the_next(scenario: Scenario) -> None:
    """Redis was away for two flushes, and the worker is killed after the third, which Redis has."""
    worker = started(scenario, 0, 1)
    copy_all(scenario, worker)
    scenario.cache.fail = 1
    count(scenario, worker)
    count(scenario, worker)
    worker.debt.connected = True
    count(scenario, worker)
    worker.rebuild.close()
    assert not scenario.cache.state().is_whole(LATEST), "readers use the database meanwhile"
    assert scenario.cache.counts != scenario.store.counts
    copy_all(scenario, started(scenario, 0, 1))


def test_a_short_outage_costs_the_windows_of_its_flushes_only(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis was away for three flushes of one window: that window is copied, and nothing else."""
    worker = started(scenario, 0, 1)
    copy_all(scenario, worker)
    scenario.cache.fail = 1
    for _ in range(3):
        count(scenario, worker)
    written = rows_copied(scenario, monkeypatch)
    copy_all(scenario, worker)
    window = scenario.now_ms - scenario.now_ms % WINDOW_MS
    assert sum(written) == sum(1 for key in scenario.store.counts if key[0] == window)


@pytest.mark.parametrize("how", ["flushed", "restored from before", "restored to nothing"])
def test_a_redis_that_lost_its_data_is_made_whole_without_more_events(scenario: Scenario, how: str) -> None:
    """FLUSHALL, an old snapshot, an empty one: nobody writes, and the next check notices."""
    worker = started(scenario, 0, 1)
    nothing = scenario.cache.saved()
    copy_all(scenario, worker)
    before = scenario.cache.saved()
    for _ in range(3):
        count(scenario, worker)
    copy_all(scenario, worker)
    if how == "flushed":
        scenario.cache.lose_everything()
    else:
        scenario.cache.restore(before if how == "restored from before" else nothing)
    assert scenario.cache.counts != scenario.store.counts
    copy_all(scenario, worker)


def test_a_redis_that_lost_its_data_in_the_middle_of_the_copy_is_copied_anew(scenario: Scenario) -> None:
    """FLUSHALL when half is copied: the copy begins again, and flushes go on meanwhile."""
    worker = started(scenario, 0, 1)
    for _ in range(12):
        worker.rebuild.step()
    scenario.cache.lose_everything()
    count(scenario, worker)
    assert worker.aggregator.counted == 1
    copy_all(scenario, worker)


def test_a_copy_whose_worker_is_killed_goes_on_where_it_was(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next worker copies the older windows only, since Redis says from when on they are complete."""
    worker = started(scenario, 0, 1)
    while scenario.cache.state().whole_from > LATEST - 50 * WINDOW_MS:
        worker.rebuild.step()
    done = sum(1 for key in scenario.cache.counts)
    # Its marks are settled with the copy, so a worker that has none of them behind must find these here.
    scenario.cache.set_marks("settled", [(0, "t", WINDOWS), (1, "t", 0)])
    worker.rebuild.close()
    written = rows_copied(scenario, monkeypatch)
    copy_all(scenario, started(scenario, 0, 1))
    assert sum(written) <= SERIES * WINDOWS - done + SERIES


def test_of_several_workers_one_copies_everything(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them notice that Redis is empty; the rows are copied once."""
    workers = [started(scenario, 0), started(scenario, 1)]
    written = rows_copied(scenario, monkeypatch)
    copy_all(scenario, *workers)
    assert sum(written) == SERIES * WINDOWS


def test_a_rebalance_in_the_middle_of_the_copy_holds_nothing_up(scenario: Scenario) -> None:
    """A partition comes to another worker while the first copies: it counts at once, and both end with all of it."""
    first = started(scenario, 0, 1)
    for _ in range(10):
        first.rebuild.step()
    first.consumer.to_revoke = [0]
    first.fetcher.fetch()
    second = started(scenario, 0)
    count(scenario, second)
    assert second.aggregator.counted == 1
    copy_all(scenario, first, second)


def test_a_database_that_was_set_back_clears_the_cache(scenario: Scenario) -> None:
    """A backup from before was restored: Redis may not show what the database does not have."""
    worker = started(scenario, 0, 1)
    copy_all(scenario, worker)
    backup = {key: list(tally) for key, tally in scenario.store.counts.items()}, dict(scenario.store.progress)
    count(scenario, worker)
    copy_all(scenario, worker)
    scenario.store.counts, scenario.store.progress = backup
    copy_all(scenario, started(scenario, 0, 1))


def test_a_flush_that_takes_its_time_is_not_taken_for_a_gap(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the commit and the write to Redis the marks are checked again and again: nothing is copied."""
    worker = started(scenario, 0, 1)
    copy_all(scenario, worker)
    count(scenario, worker)
    written = rows_copied(scenario, monkeypatch)

    def check(name: str) -> None:
        if name == "committed":
            for _ in range(3 * cache_check.CHECKS):
                scenario.clock.now += cache_check.CHECK_EVERY_S
                worker.rebuild.step()

    scenario.at_point = check
    count(scenario, worker)
    assert written == [1]


def test_what_a_short_outage_left_out_is_copied_in_the_middle_of_a_long_copy(scenario: Scenario) -> None:
    """Readers of the newest windows do without Redis for a moment, not until everything is copied."""
    worker = started(scenario, 0, 1)
    for _ in range(12):
        worker.rebuild.step()
    scenario.cache.fail = 1
    count(scenario, worker)
    assert not worker.debt.connected
    worker.rebuild.step()
    for _ in range(6):
        worker.rebuild.step()
    window = scenario.now_ms - scenario.now_ms % WINDOW_MS
    assert scenario.cache.state().is_whole(window)
    assert not scenario.cache.state().is_whole(scenario.cache.oldest(START))
    shown = {key: tally for key, tally in scenario.cache.counts.items() if key[0] == window}
    assert shown == {key: tally for key, tally in scenario.store.counts.items() if key[0] == window}
    copy_all(scenario, worker)
