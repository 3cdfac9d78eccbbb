"""The contracts of ``funnelwatch.sinks.base``, for every sink: PostgreSQL, Redis, and those in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from funnelwatch.schemas.counts import CountRow, Counts, PartitionCounts, Series
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.base import CountSink, MisplacedError, TopicRecreatedError, TotalsSink
from funnelwatch.sinks.errors import is_transient
from funnelwatch.sinks.redis.cache import CountCache
from funnelwatch.sinks.redis.state import IncompleteError
from funnelwatch.sinks.timescale.counts import CountStore
from tests.property.pipeline_model import START, CachedWindows, Store
from tests.proxy import door
from tests.traffic import row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.database import Database

TOPIC, ID = "events", "id-1"
A, B = (START, Series.of("f", "A", os="iOS", app_version="1")), (START, Series.of("f", "B", os="iOS", app_version="1"))


def batch(start: int, end: int, counts: Counts, partition: int = 0) -> PartitionCounts:
    """The counts of the records ``[start, end)`` of a partition."""
    counts = {key: list(tally) for key, tally in counts.items()}
    accepted = sum(sum(tally[:3]) for tally in counts.values())
    return PartitionCounts(partition, start, end, WindowCounts.of(counts), accepted=accepted, log_time=START)


class PostgresCounts:
    """The counts in PostgreSQL, and two ways to fail."""

    def __init__(self, connect: Callable[[], Database], monkeypatch: pytest.MonkeyPatch) -> None:
        self._database = connect()
        self.sink: CountSink = CountStore(self._database)
        self._connect = connect
        self._monkeypatch = monkeypatch

    def counts(self) -> Counts:
        """Everything that is counted."""
        rows = CountStore(self._connect()).read(0, 2**45)
        return {(window, series): list(tally) for window, series, tally in rows}

    def flush_cut_before_commit(self, batches: list[PartitionCounts]) -> None:
        """Flush over a session that the server ends before the commit."""
        pid = self._database.connection().info.backend_pid

        def cut(_name: str) -> None:
            self._connect().connection().execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

        with self._monkeypatch.context() as patched:
            patched.setattr("funnelwatch.sinks.timescale.counts.failpoint", cut)
            self.sink.flush(TOPIC, ID, batches)

    def flush_without_answer(self, batches: list[PartitionCounts]) -> None:
        """Flush, and lose the answer after the commit."""
        self.sink.flush(TOPIC, ID, batches)
        self._database.close()
        raise psycopg.OperationalError("the answer was lost")


class MemoryCounts:
    """The counts of the model in memory, and the same two ways to fail."""

    def __init__(self) -> None:
        self._store = Store()
        self.sink: CountSink = self._store

    def counts(self) -> Counts:
        """Everything that is counted."""
        return self._store.counts

    def flush_cut_before_commit(self, batches: list[PartitionCounts]) -> None:
        """Flush and fail before anything is written."""
        self._store.fail_before = 1
        self.sink.flush(TOPIC, ID, batches)

    def flush_without_answer(self, batches: list[PartitionCounts]) -> None:
        """Flush and fail after everything is written."""
        self._store.fail_after = 1
        self.sink.flush(TOPIC, ID, batches)


@pytest.fixture(params=["memory", "postgresql"])
def counted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> PostgresCounts | MemoryCounts:
    """Each sink of counts, with partitions 0 and 1 started at offset 0."""
    one: PostgresCounts | MemoryCounts
    if request.param == "memory":
        one = MemoryCounts()
    else:
        one = PostgresCounts(request.getfixturevalue("connect"), monkeypatch)
    one.sink.start(TOPIC, ID, {0: 0, 1: 0})
    return one


def test_a_flush_adds_counts_and_returns_the_new_totals(counted: PostgresCounts | MemoryCounts) -> None:
    """Only the keys that the flush added to have new totals; the progress moves on with them."""
    counted.sink.flush(TOPIC, ID, [batch(0, 3, {A: row_of(2, 1, 0, 1, 0, 2, 1, 2)})])
    flushed = counted.sink.flush(
        TOPIC, ID, [batch(3, 5, {A: row_of(1, 0, 1, 0, 1, 1, 1, 0, 1)}), batch(0, 1, {B: row_of(1)}, 1)]
    )
    assert (flushed.skipped, flushed.late) == ([], 0)
    assert flushed.totals.by_name() == {A: row_of(3, 1, 1, 1, 1, 3, 2, 2, 1), B: row_of(1)}
    assert counted.counts() == flushed.totals.by_name()
    assert {number: one.next_offset for number, one in counted.sink.start(TOPIC, ID, {0: 0, 1: 0}).items()} == {
        0: 5,
        1: 1,
    }


def test_a_repeated_flush_counts_once(counted: PostgresCounts | MemoryCounts) -> None:
    """A batch that is counted already is skipped; the others of the same flush are not."""
    first = {A: row_of(3)}
    counted.sink.flush(TOPIC, ID, [batch(0, 3, first)])
    flushed = counted.sink.flush(TOPIC, ID, [batch(0, 3, first), batch(0, 1, {A: row_of(1)}, 1)])
    assert (flushed.skipped, flushed.totals.by_name()) == ([0], {A: row_of(4)})
    assert counted.counts() == {A: row_of(4)}


@pytest.mark.parametrize(("start", "end", "is_gap"), [(1, 6, False), (4, 6, True)], ids=["overlap", "gap"])
def test_a_misplaced_batch_writes_nothing_of_its_flush(
    counted: PostgresCounts | MemoryCounts, start: int, end: int, is_gap: bool
) -> None:
    """Batches of other partitions in the same flush are not written either."""
    counted.sink.flush(TOPIC, ID, [batch(0, 3, {A: row_of(3)})])
    with pytest.raises(MisplacedError) as caught:
        counted.sink.flush(TOPIC, ID, [batch(0, 1, {B: row_of(1)}, 1), batch(start, end, {A: row_of(9)})])
    assert (caught.value.partition, caught.value.expected, caught.value.is_gap) == (0, 3, is_gap)
    assert counted.counts() == {A: row_of(3)}
    assert counted.sink.start(TOPIC, ID, {1: 0})[1].next_offset == 0


def test_progress_of_another_topic_is_rejected(counted: PostgresCounts | MemoryCounts) -> None:
    """A topic that was deleted and created again is not counted on top of the old one."""
    with pytest.raises(TopicRecreatedError):
        counted.sink.start(TOPIC, "id-2", {0: 0})
    with pytest.raises(TopicRecreatedError):
        counted.sink.flush(TOPIC, "id-2", [batch(0, 1, {A: row_of(1)})])
    with pytest.raises(TopicRecreatedError):
        counted.sink.flush(TOPIC, ID, [batch(0, 1, {A: row_of(1)}, 7)])
    assert counted.counts() == {}


def test_a_flush_that_fails_before_its_commit_leaves_nothing(counted: PostgresCounts | MemoryCounts) -> None:
    """The error is transient, and the same flush succeeds when it is repeated."""
    batches = [batch(0, 2, {A: row_of(2)}), batch(0, 1, {B: row_of(1)}, 1)]
    with pytest.raises(psycopg.Error) as caught:
        counted.flush_cut_before_commit(batches)
    assert is_transient(caught.value)
    assert counted.counts() == {}
    assert counted.sink.flush(TOPIC, ID, batches).skipped == []
    assert counted.counts() == {A: row_of(2), B: row_of(1)}


def test_a_flush_whose_answer_is_lost_is_repeated_and_counts_once(counted: PostgresCounts | MemoryCounts) -> None:
    """The caller cannot know that everything was written; the repeat finds it counted."""
    batches = [batch(0, 2, {A: row_of(2)}), batch(0, 1, {A: row_of(1)}, 1)]
    with pytest.raises(psycopg.OperationalError):
        counted.flush_without_answer(batches)
    assert sorted(counted.sink.flush(TOPIC, ID, batches).skipped) == [0, 1]
    assert counted.counts() == {A: row_of(3)}


class RedisTotals:
    """The cache in Redis, behind a door that can be shut."""

    def __init__(self, settings: Settings, entrance: Any, url: str) -> None:
        self._entrance = entrance
        self._cache = CountCache(url, settings.redis_prefix, 3600)
        self._cache.rebuild([], START)
        self.sink: TotalsSink = self._cache

    def write_away(self, totals: Counts) -> None:
        """Write while Redis is away."""
        self._entrance.shut()
        try:
            self.sink.write(WindowCounts.of(totals), START)
        finally:
            self._entrance.open()

    def lose_everything(self) -> None:
        """Lose the data."""
        self._cache.clear()

    def close(self) -> None:
        """Remove the keys."""
        self._cache.clear()
        self._cache.close()


class MemoryTotals:
    """The cache of the model in memory."""

    def __init__(self) -> None:
        self._cache = CachedWindows()
        self._cache.begin_epoch()
        self.sink: TotalsSink = self._cache

    def write_away(self, totals: Counts) -> None:
        """Write and fail."""
        self._cache.fail = 1
        self.sink.write(WindowCounts.of(totals), START)

    def lose_everything(self) -> None:
        """Lose the data."""
        self._cache.lose_everything()


@pytest.fixture(params=["memory", "redis"])
def cached(request: pytest.FixtureRequest, settings: Settings) -> Iterator[RedisTotals | MemoryTotals]:
    """Each sink of totals, complete and empty."""
    if request.param == "memory":
        yield MemoryTotals()
        return
    with door(settings.redis_url.get_secret_value()) as (entrance, url):
        one = RedisTotals(settings, entrance, url)
        yield one
        one.close()


SERIES_A, SERIES_B = A[1], B[1]


def test_totals_are_raised_and_never_lowered(cached: RedisTotals | MemoryTotals) -> None:
    """A zombie's older totals change nothing, also where only one of the counts is smaller."""
    cached.sink.write(WindowCounts.of({A: row_of(5, 3, 1, 0, 2, 4, 3, 2, 1)}), START)
    cached.sink.write(WindowCounts.of({A: row_of(4, 9, 1, 0, 0, 5, 2, 3, 0), B: row_of(1)}), START)
    shown = cached.sink.read("f", START)
    assert shown == {SERIES_A: CountRow(5, 9, 1, 0, 2, 5, 3, 3, 1), SERIES_B: CountRow(1)}


def test_a_repeated_write_changes_nothing(cached: RedisTotals | MemoryTotals) -> None:
    """Totals are absolute, so a repeat is harmless."""
    for _ in range(3):
        assert cached.sink.write(WindowCounts.of({A: row_of(5, 3, 1, 0, 2)}), START)
    assert cached.sink.read("f", START) == {SERIES_A: CountRow(5, 3, 1, 0, 2)}


def test_windows_and_funnels_do_not_mix(cached: RedisTotals | MemoryTotals) -> None:
    """A read has the series of its window and funnel only; a window without counts is empty."""
    totals = {
        A: row_of(1),
        (START + 60_000, A[1]): row_of(2),
        (START, A[1]._replace(funnel="g")): row_of(3),
    }
    cached.sink.write(WindowCounts.of(totals), START)
    assert cached.sink.read("f", START) == {SERIES_A: CountRow(1)}
    assert cached.sink.read("g", START) == {SERIES_A._replace(funnel="g"): CountRow(3)}
    assert cached.sink.read("f", START - 60_000) == {}


def test_a_write_that_fails_is_repeated_and_shows_no_more_than_its_totals(cached: RedisTotals | MemoryTotals) -> None:
    """The error is transient; totals that were there stay, and the repeat raises them."""
    cached.sink.write(WindowCounts.of({A: row_of(1)}), START)
    totals = {A: row_of(4), B: row_of(2)}
    with pytest.raises(Exception, match=r".") as caught:
        cached.write_away(totals)
    assert is_transient(caught.value)
    shown = cached.sink.read("f", START)
    assert 1 <= shown[SERIES_A].impressions <= 4
    assert shown.get(SERIES_B, CountRow()).impressions <= 2
    assert cached.sink.write(WindowCounts.of(totals), START)
    assert cached.sink.read("f", START) == {SERIES_A: CountRow(4), SERIES_B: CountRow(2)}


def test_a_copy_that_lost_its_data_takes_no_totals(cached: RedisTotals | MemoryTotals) -> None:
    """Totals of some windows would pass for a complete copy."""
    cached.sink.write(WindowCounts.of({A: row_of(1)}), START)
    cached.lose_everything()
    with pytest.raises(IncompleteError):
        cached.sink.write(WindowCounts.of({A: row_of(2)}), START)
    assert cached.sink.read("f", START) == {}
