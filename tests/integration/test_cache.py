"""The cache on a real Redis: never more than the database, and equal to it in the end."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pytest
import redis

from funnelwatch.deploy.embedded.ports import HOST
from funnelwatch.schemas.counts import CountRow, Series
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.validation import Limits
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.redis.cache import CountCache
from funnelwatch.sinks.redis.keys import counts_key
from funnelwatch.sinks.redis.state import IncompleteError
from funnelwatch.sinks.timescale.cache import CacheSource
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.stream.aggregate.aggregator import Aggregator
from funnelwatch.stream.aggregate.cache_debt import CacheDebt
from funnelwatch.stream.aggregate.cache_rebuild import RECHECK_S, CacheRebuild
from funnelwatch.stream.intake.batches import Record, RecordBatch, Records
from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.polled_batch import PartitionAssignment, PolledBatch
from funnelwatch.stream.intake.validation import Validation
from funnelwatch.stream.intake.validator import EventValidator
from tests.redis_servers import OwnRedis
from tests.stack import wait_until
from tests.traffic import event, now_ms, row_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from funnelwatch.schemas.settings import Settings

NOW = 1_700_000_100_000
W0 = 1_700_000_040_000
A = Series.of("f", "A", os="iOS", app_version="1")


@pytest.fixture
def copy(settings: Settings) -> Iterator[CountCache]:
    """A whole, empty copy with an hour's horizon."""
    copy = CountCache(settings.redis_url, settings.redis_prefix, 3600)
    copy.rebuild([], NOW)
    yield copy
    copy.clear()
    copy.close()


def test_a_count_is_raised_and_never_lowered(copy: CountCache) -> None:
    """A replay with smaller totals changes nothing, also where only one of the counts is smaller."""
    copy.write(WindowCounts.of({(W0, A): row_of(5, 3, 1, 0, 2, 4, 3, 2, 1)}), NOW)
    copy.write(WindowCounts.of({(W0, A): row_of(4, 9, 1, 0, 0, 5, 2, 3, 0)}), NOW)
    assert copy.read("f", W0) == {A: CountRow(5, 9, 1, 0, 2, 5, 3, 3, 1)}


def test_a_copy_that_lost_its_data_takes_nothing_until_it_is_rebuilt(copy: CountCache) -> None:
    """After FLUSHALL of our keys a write is rejected and writes nothing; a rebuild makes it whole."""
    copy.write(WindowCounts.of({(W0, A): row_of(5)}), NOW)
    copy.clear()
    assert not copy.is_whole()
    with pytest.raises(IncompleteError):
        copy.write(WindowCounts.of({(W0, A): row_of(6)}), NOW)
    assert copy.read("f", W0) == {}
    assert copy.rebuild([(W0, A, CountRow(6))], NOW) == 1
    assert copy.read("f", W0) == {A: CountRow(6)}


def test_windows_that_are_old_are_neither_written_nor_kept(copy: CountCache, settings: Settings) -> None:
    """A key lives until its window leaves the horizon; older windows are not written at all."""
    copy.write(WindowCounts.of({(NOW - 3_700_000, A): row_of(1), (W0, A): row_of(1)}), NOW)
    assert copy.read("f", NOW - 3_700_000) == {}
    client = redis.Redis.from_url(revealed(settings.redis_url))
    left = client.ttl(counts_key(settings.redis_prefix, "f", W0))
    client.close()
    assert 3400 <= left <= 3540


@pytest.mark.parametrize("at_once", [100, 5_000])
def test_a_large_write_goes_in_bounded_calls(copy: CountCache, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """One window of thousands of series does not hold the server for long, and all of it arrives."""
    monkeypatch.setattr("funnelwatch.sinks.redis.cache.SERIES_AT_ONCE", at_once)
    sizes: list[int] = []
    real = copy._raise

    def counted(keys: list[str], args: list[Any]) -> Any:
        sizes.append(len(args))
        return real(keys=keys, args=args)

    monkeypatch.setattr(copy, "_raise", counted)
    totals = {
        (W0, Series.of("f", f"S{number}", os="iOS", app_version="1")): row_of(*range(1, 10)) for number in range(2_500)
    }
    copy.write(WindowCounts.of(totals), NOW)
    assert max(sizes) <= at_once + 3 + 3
    found = copy.read("f", W0)
    assert (len(found), set(found.values())) == (2_500, {CountRow(*range(1, 10))})


@pytest.mark.parametrize("text", ["", "a:b", '["x"]', "日本語", "\\", "*"])
def test_odd_names_do_not_mix_up_series(copy: CountCache, text: str) -> None:
    """Colons, brackets and stars in names come back as they went."""
    odd = Series.of(text or "f", text, os=text, browser=text, app_version=text)
    copy.write(WindowCounts.of({(W0, odd): row_of(1), (W0, A): row_of(2)}), NOW)
    assert copy.read(odd.funnel, W0)[odd] == CountRow(1)
    assert copy.read_many("f", [W0])[W0][A] == CountRow(2)


@pytest.fixture
def own_redis() -> Iterator[OwnRedis]:
    """A Redis that runs."""
    server = OwnRedis()
    server.start()
    yield server
    server.stop()


class Counting:
    """An aggregator and a rebuild with a real store and a real copy, fed and stepped by hand."""

    def __init__(self, settings: Settings, store: CountStore) -> None:
        self.settings = settings
        self.store = store
        self.cache = self.open_cache()
        self.debt = CacheDebt()
        self.rebuild = CacheRebuild(
            settings=settings,
            source=CacheSource(Database(settings.timescale_url)),
            cache=self.open_cache(),
            debt=self.debt,
            assigned=lambda: {0: self.assigned},
        )
        self.sent: list[dict[str, Any]] = []
        self.rewound: list[PartitionAssignment] = []
        store.start(settings.events_topic, "id", {0: 0})
        self.assigned = PartitionAssignment(0, "id", 0, 0, SeenIds(600_000))
        stopping = threading.Event()
        self.validation = Validation(
            validator=EventValidator(
                lambda value: dict(self.sent[int(value or b"")]), {}, Limits(300_000, 10**11), 10**6
            ),
            dead_letters=None,  # type: ignore[arg-type]
            stopping=stopping,
            keep_alive=lambda: None,
        )
        self.aggregator = Aggregator(
            settings=settings,
            store=store,
            cache=self.cache,
            debt=self.debt,
            rewind=self.rewound.append,
            commit=lambda _: None,
            stopping=stopping,
        )

    def open_cache(self) -> CountCache:
        """A copy with a connection of its own."""
        settings = self.settings
        return CountCache(settings.redis_url, settings.redis_prefix, settings.cache_horizon_s, settings.events_topic)

    def close(self) -> None:
        """Let the connections go."""
        self.rebuild.close()
        self.cache.close()

    def count(self, *fetches: PolledBatch) -> None:
        """Validate batches, count them together, and copy what Redis lacks if it answers."""
        self.aggregator([self.validation(fetch) for fetch in fetches])
        self.copy()

    def copy(self) -> None:
        """Step until nothing is left, or Redis does not answer."""
        for _ in range(2_000):
            pause = self.rebuild.step()
            if self.rebuild.error or (self.debt.settled and self.debt.connected and pause > RECHECK_S):
                return
            time.sleep(min(pause, 0.01))
        raise AssertionError("the copy does not come to an end")

    def feed(self, count: int = 3, **more: Any) -> None:
        """Count some more events."""
        first = len(self.sent)
        self.sent += [event() for _ in range(count)]
        records = [Record(at, b"k", str(at).encode(), now_ms()) for at in range(first, first + count)]
        self.count(
            PolledBatch(batches=[(self.assigned, RecordBatch(0, first, first + count, Records.of(records)))], **more)
        )

    def in_redis(self) -> dict[Any, CountRow]:
        """What the copy shows of every window that the database has."""
        shown: dict[Any, CountRow] = {}
        for window in {window for window, _, _ in self.store.read(0, 2**45)}:
            shown |= {(window, series): tally for series, tally in self.cache.read("sign_up", window).items()}
        return shown

    def in_database(self) -> dict[Any, CountRow]:
        """What is counted."""
        return {(window, series): tally for window, series, tally in self.store.read(0, 2**45)}


@pytest.fixture
def counting(settings: Settings, store: CountStore, own_redis: OwnRedis) -> Iterator[Counting]:
    """Counting into the test's database and its own Redis."""
    counting = Counting(settings.model_copy(update={"redis_url": own_redis.url}), store)
    yield counting
    counting.close()


def settle(counting: Counting) -> None:
    """Give it empty fetches, as an idle worker has them, until the copy is whole and equal."""

    def equal() -> bool:
        counting.count(PolledBatch())
        with contextlib.suppress(redis.RedisError):
            return counting.in_redis() == counting.in_database()
        return False

    wait_until(equal, "the copy is equal again")


def test_counting_goes_on_without_redis_and_the_copy_is_repaired_without_new_events(
    counting: Counting, own_redis: OwnRedis
) -> None:
    """Redis stops: counts go on. It comes back empty: the copy equals the database, though nothing more arrives."""
    counting.feed()
    assert counting.in_redis() == counting.in_database()
    own_redis.stop()
    began = time.monotonic()
    counting.feed()
    assert time.monotonic() - began < 40
    assert sum(tally.events for tally in counting.in_database().values()) == 6
    own_redis.start()
    settle(counting)


def test_a_copy_that_was_emptied_under_way_is_repaired(counting: Counting, own_redis: OwnRedis) -> None:
    """FLUSHALL between two flushes: the second notices, and the copy is rebuilt from the database."""
    counting.feed()
    with redis.Redis(host=HOST, port=own_redis.port) as client:
        client.flushall()
    counting.feed()
    settle(counting)
    assert sum(tally.events for tally in counting.in_redis().values()) == 6


def test_totals_of_a_flush_whose_answer_was_lost_reach_the_copy(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flush is committed, the connection breaks, the repetition finds it counted: the copy is equal."""
    counting.feed()
    real = counting.store.flush
    broken: list[int] = []

    def lose_the_answer(*arguments: Any) -> Any:
        flushed = real(*arguments)
        if not broken:
            import psycopg

            broken.append(1)
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return flushed

    monkeypatch.setattr(counting.store, "flush", lose_the_answer)
    counting.feed()
    assert broken
    settle(counting)
    assert sum(tally.events for tally in counting.in_database().values()) == 6


def test_a_partition_taken_over_repairs_what_its_last_worker_left_out(counting: Counting) -> None:
    """A worker that died between database and Redis: the next one copies the recent windows when it is assigned."""
    counting.feed()
    other = CountStore(counting.store._database)
    series = Series.of("sign_up", "INPUT_NAME", os="iOS", app_version="1")
    window = now_ms() // 60_000 * 60_000
    from funnelwatch.schemas.counts import PartitionCounts

    left_out = PartitionCounts(0, 3, 4, WindowCounts.of({(window, series): row_of(1)}), accepted=1)
    other.flush(counting.settings.events_topic, "id", [left_out])
    assert counting.in_redis() != counting.in_database()
    counting.assigned = PartitionAssignment(0, "id", 4, 4, SeenIds(600_000))
    counting.count(PolledBatch(newly_assigned=True))
    assert counting.in_redis() == counting.in_database()


def test_an_overlap_is_trimmed_and_a_gap_is_read_again(counting: Counting) -> None:
    """What somebody else counted of a batch is left out; a batch beyond what is counted is asked for again."""
    counting.feed(2)
    counting.sent += [event(), event()]
    records = [Record(at, b"k", str(at).encode(), now_ms()) for at in range(4)]
    zombie = PartitionAssignment(0, "id", 0, 0, SeenIds(600_000))
    counting.count(PolledBatch(batches=[(zombie, RecordBatch(0, 0, 4, Records.of(records)))]))
    assert sum(tally.events for tally in counting.in_database().values()) == 4
    beyond = [Record(9, b"k", b"0", now_ms())]
    counting.count(PolledBatch(batches=[(zombie, RecordBatch(0, 9, 10, Records.of(beyond)))]))
    assert counting.rewound == [zombie]
    assert sum(tally.events for tally in counting.in_database().values()) == 4


def test_any_text_of_a_dimension_comes_back_from_both_stores_as_it_was(counting: Counting) -> None:
    """Quotes, braces, separators, escapes, NULL and nothing at all are values like others."""
    odd = ["", "NULL", '"', "\\", "{a,b}", "a\\\"b'", "\n\t\x1f", "日本語", "%s %(x)s", " "]
    counting.sent += [event(browser=browser, ts=now_ms() // 60_000 * 60_000) for browser in odd]
    records = [Record(at, b"k", str(at).encode(), now_ms()) for at in range(len(odd))]
    counting.count(PolledBatch(batches=[(counting.assigned, RecordBatch(0, 0, len(odd), Records.of(records)))]))
    assert sorted(series.value("browser") for _, series in counting.in_database()) == sorted(odd)
    assert counting.in_redis() == counting.in_database()
