"""The counts of record on a real database: once, whole, and in spite of everything."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import pytest

from funnelwatch.schemas.counts import CountKey, CountRow, Counts, PartitionCounts, Series
from funnelwatch.schemas.funnels import Funnel
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.validation import MAX_DIMENSIONS_BYTES, Limits, RejectedError, check_series
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.base import MisplacedError, TopicRecreatedError
from funnelwatch.sinks.retry import RetryPolicy
from funnelwatch.sinks.timescale.closing import PartitionWatermark
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database
from tests.stack import wait_until
from tests.traffic import row_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.closing import ClosingStore

TOPIC, TOPIC_ID = "events", "id-1"
MINUTE = 60_000
W0 = 1_700_000_040_000


def key(window: int = W0, step: str = "A", os: str = "iOS", funnel: str = "f") -> CountKey:
    """The key of a count."""
    return window, Series.of(funnel, step, os=os, app_version="1")


def batch(start: int, end: int, counts: Counts, partition: int = 0, watermark: int | None = None) -> PartitionCounts:
    """What ``[start, end)`` of a partition adds."""
    accepted = sum(sum(numbers[:3]) for numbers in counts.values())
    return PartitionCounts(
        partition, start, end, WindowCounts.of(counts), accepted=accepted, watermark=watermark, log_time=W0
    )


def rows(store: CountStore) -> Counts:
    """Everything that is counted."""
    return {(window, series): list(tally) for window, series, tally in store.read(0, 2**45)}


@pytest.fixture
def started(store: CountStore) -> CountStore:
    """A store in which partitions 0 to 3 start at offset 0."""
    store.start(TOPIC, TOPIC_ID, dict.fromkeys(range(4), 0))
    return store


def test_a_flush_returns_the_totals_and_moves_the_progress_on(started: CountStore) -> None:
    """What it returns for the copy is what the database then has."""
    started.flush(TOPIC, TOPIC_ID, [batch(0, 3, {key(): row_of(2, 1, 0, 1)})])
    flushed = started.flush(TOPIC, TOPIC_ID, [batch(3, 5, {key(): row_of(1, 0, 1, 0, 1), key(step="B"): row_of(1)})])
    assert flushed.totals.by_name() == {key(): row_of(3, 1, 1, 1, 1), key(step="B"): row_of(1)}
    assert flushed.totals.by_name() == rows(started)
    assert started.start(TOPIC, TOPIC_ID, {0: 0})[0].next_offset == 5
    assert started.totals(TOPIC)["accepted"] == started.totals(TOPIC)["counted"] == 6


def test_the_same_flush_twice_counts_once(started: CountStore) -> None:
    """A repeated flush, its answer lost, is passed over whole; a partition that is new to it is not."""
    first = batch(0, 3, {key(): row_of(3)})
    other = batch(0, 1, {key(): row_of(1)}, partition=1)
    started.flush(TOPIC, TOPIC_ID, [first])
    flushed = started.flush(TOPIC, TOPIC_ID, [first, other])
    assert flushed.skipped == [0]
    assert rows(started) == {key(): row_of(4)}
    assert started.totals(TOPIC)["accepted"] == 4


@pytest.mark.parametrize(("start", "end", "is_gap"), [(1, 6, False), (4, 6, True)])
def test_a_misplaced_batch_writes_nothing(started: CountStore, start: int, end: int, is_gap: bool) -> None:
    """An overlap in part and a gap are told apart, and neither leaves a trace, of other partitions neither."""
    started.flush(TOPIC, TOPIC_ID, [batch(0, 3, {key(): row_of(3)})])
    good = batch(0, 1, {key(): row_of(1)}, partition=1)
    with pytest.raises(MisplacedError) as caught:
        started.flush(TOPIC, TOPIC_ID, [good, batch(start, end, {key(): row_of(9)})])
    assert (caught.value.partition, caught.value.expected, caught.value.is_gap) == (0, 3, is_gap)
    assert rows(started) == {key(): row_of(3)}
    assert started.start(TOPIC, TOPIC_ID, {1: 0})[1].next_offset == 0


def test_progress_of_another_topic_of_the_same_name_is_rejected(started: CountStore) -> None:
    """A topic that was made anew is neither started nor counted on top of the old one."""
    with pytest.raises(TopicRecreatedError, match="partition 0 of events"):
        started.start(TOPIC, "id-2", {0: 0})
    with pytest.raises(TopicRecreatedError, match="partition 0 of events"):
        started.flush(TOPIC, "id-2", [batch(0, 1, {key(): row_of(1)})])
    with pytest.raises(TopicRecreatedError):
        started.flush(TOPIC, TOPIC_ID, [batch(0, 1, {key(): row_of(1)}, partition=7)])
    assert rows(started) == {}


def test_workers_that_add_to_the_same_keys_in_opposite_order_neither_deadlock_nor_lose(
    started: CountStore, connect: Callable[[], Database]
) -> None:
    """Four workers, each on its partition, flush the same keys at the same time; the totals are exact."""
    steps = [f"S{number}" for number in range(60)]
    flushes = 25
    deadlocks = 0

    def work(partition: int) -> None:
        nonlocal deadlocks
        own = CountStore(connect())
        order = steps if partition % 2 else steps[::-1]
        for number in range(flushes):
            counts = {key(step=step, funnel=f"f{len(step)}"): row_of(1) for step in order}
            try:
                own.flush(TOPIC, TOPIC_ID, [batch(number, number + 1, counts, partition)])
            except psycopg.errors.DeadlockDetected:
                deadlocks += 1
                raise

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert deadlocks == 0
    assert {tuple(numbers) for numbers in rows(started).values()} == {CountRow(4 * flushes)}


def test_a_connection_that_is_cut_in_the_middle_costs_a_retry_and_no_count(
    started: CountStore, connect: Callable[[], Database], settings: Settings
) -> None:
    """With sessions ended at any moment, every flush is repeated until it is in, and all are counted once."""
    over = threading.Event()
    chance = random.Random(1)

    def cut() -> None:
        with psycopg.connect(revealed(settings.timescale_url), autocommit=True) as session:
            while not over.wait(chance.uniform(0.0, 0.3)):
                session.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'victim'"
                )

    victim = CountStore(Database(settings.timescale_url, application="victim"))
    retries = flushes = 0

    def retried() -> None:
        nonlocal retries
        retries += 1

    retry = RetryPolicy(over, retried)
    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        counts = {key(step=f"S{step}"): row_of(1) for step in range(100)}
        while retries < 5:
            retry("flush", partial(victim.flush, TOPIC, TOPIC_ID, [batch(flushes, flushes + 1, counts)]))
            flushes += 1
    finally:
        over.set()
        cutter.join()
        victim._database.close()
    assert {tuple(numbers) for numbers in rows(started).values()} == {CountRow(flushes)}


def test_an_event_for_a_closed_window_is_late_and_a_cohort_that_completes_is_not(
    started: CountStore, closing: ClosingStore
) -> None:
    """Late events are marked by window; what only adds to an older cohort, of events or sessions, marks nothing."""
    started.flush(TOPIC, TOPIC_ID, [batch(0, 1, {key(): row_of(1)})])
    closing.start_closing("f", W0 + MINUTE)
    counts = {key(): row_of(0, 0, 0, 1, 0, 0, 1, 1, 1), key(W0 + MINUTE): row_of(0, 1)}
    assert started.flush(TOPIC, TOPIC_ID, [batch(1, 2, counts)]).late == 0
    assert started.flush(TOPIC, TOPIC_ID, [batch(2, 4, {key(): row_of(1, 0, 1)})]).late == 2
    late = closing.claim_late("f", W0 + MINUTE, 0, 10)
    assert [(one.window, one.revision, one.events) for one in late] == [(W0, 1, 2)]


def test_closing_waits_for_the_flush_that_did_not_know_and_the_next_one_is_late(
    started: CountStore, closing: ClosingStore, connect: Callable[[], Database]
) -> None:
    """A flush under way is committed when closing begins; one that comes meanwhile sees its events marked late."""
    started.flush(TOPIC, TOPIC_ID, [batch(0, 1, {key(): row_of(1)})])
    slow, quick = CountStore(connect()), CountStore(connect())
    marked, go_on = threading.Event(), threading.Event()
    mark_late = slow._mark_late

    def wait_in_the_middle(*arguments: object) -> int:
        late = mark_late(*arguments)  # type: ignore[arg-type]
        marked.set()
        assert go_on.wait(90)
        return late

    slow._mark_late = wait_in_the_middle  # type: ignore[method-assign,assignment]
    with ThreadPoolExecutor(3) as pool:
        before = pool.submit(slow.flush, TOPIC, TOPIC_ID, [batch(1, 2, {key(): row_of(1)})])
        assert marked.wait(90)
        closed = pool.submit(closing.start_closing, "f", W0 + MINUTE)
        asked = Database(connect().url)
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_until(lambda: asked.connection().execute(waiting).fetchone(), "the closer waits")
        after = pool.submit(quick.flush, TOPIC, TOPIC_ID, [batch(0, 1, {key(): row_of(1)}, partition=1)])
        assert not closed.done()
        go_on.set()
        assert before.result(90).late == 0
        closed.result(90)
        assert after.result(90).late == 1
        asked.close()
    assert closing.read("f", W0, W0 + MINUTE)[W0][Series.of("f", "A", os="iOS", app_version="1")].impressions == 3


def test_the_closer_gets_its_turn_while_workers_flush_without_a_pause(
    started: CountStore, closing: ClosingStore, connect: Callable[[], Database]
) -> None:
    """Flushes that overlap all the time do not keep the closer out."""
    over = threading.Event()

    def work(partition: int) -> None:
        own = CountStore(connect())
        number = 0
        while not over.is_set():
            own.flush(TOPIC, TOPIC_ID, [batch(number, number + 1, {key(os=str(partition)): row_of(1)}, partition)])
            number += 1

    with ThreadPoolExecutor(5) as pool:
        try:
            busy = [pool.submit(work, partition) for partition in range(4)]
            wait_until(lambda: len(rows(started)) == 4, "all four flush")
            for number in range(20):
                pool.submit(closing.start_closing, "f", W0 + number * MINUTE).result(60)
        finally:
            over.set()
        for one in busy:
            one.result(60)


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE window_counts; --",
        "\\",
        "a\\'b",
        '"',
        "日本語 ü 🙂",
        "\u202e",
        "%s %(x)s",
        "{}",
        "\t\n",
        "\u0001",
        "x" * 100,
    ],
)
def test_any_text_in_a_dimension_is_kept_as_it_is(started: CountStore, text: str) -> None:
    """Quotes, backslashes, placeholders and odd characters are data."""
    odd = (W0, Series.of(text, text, os=text, browser=text, app_version=text))
    started.flush(TOPIC, TOPIC_ID, [batch(0, 1, {odd: row_of(1)})])
    assert rows(started) == {odd: row_of(1)}
    assert list(started.read(0, 2**45, text)) == [
        (W0, Series.of(text, text, os=text, browser=text, app_version=text), CountRow(1))
    ]


def test_the_longest_dimensions_that_are_let_in_fit_into_the_index(started: CountStore) -> None:
    """Names of 100 characters, four bytes each and not compressible, and as many dimensions as fit, are counted."""
    texts = ["".join(chr(0x1F300 + (seed * 37 + at * at * 11) % 700) for at in range(100)) for seed in range(6)]
    dimensions = dict(zip("abcd", texts[2:], strict=True))
    dimensions["d"] = dimensions["d"][:99]
    longest = Series.of(*texts[:2], **dimensions)
    assert sum(len(part.encode()) for pair in longest.dimensions for part in pair) == MAX_DIMENSIONS_BYTES
    check_series(longest, {texts[0]: Funnel((texts[1],), tuple("abcd"))}, Limits(0, 0))
    started.flush(TOPIC, TOPIC_ID, [batch(0, 1, {(W0, longest): row_of(1)})])
    assert rows(started) == {(W0, longest): row_of(1)}
    narrow = Series.of(*texts[:2], **{f"n{at}": "x" * 78 for at in range(20)})
    with pytest.raises(RejectedError, match="the dimensions have 1610 bytes together, more than 1600"):
        check_series(narrow, {texts[0]: Funnel((texts[1],), tuple(f"n{at}" for at in range(20)))}, Limits(0, 0))


def test_idle_is_forgotten_with_a_later_watermark_with_a_new_assignment_and_when_nobody_says_it(
    started: CountStore, closing: ClosingStore, settings: Settings
) -> None:
    """An idle partition stays idle for garbage and old events, and not for anything that moves its watermark."""

    def state() -> PartitionWatermark:
        return closing.watermarks(TOPIC)[0]

    started.flush(TOPIC, TOPIC_ID, [batch(0, 1, {key(): row_of(1)}, watermark=W0)])
    assert state() == PartitionWatermark(W0, idle=False)
    started.mark_idle(TOPIC, [0])
    assert state().idle
    started.flush(TOPIC, TOPIC_ID, [batch(1, 2, {}), batch(0, 1, {}, partition=1)])
    started.flush(TOPIC, TOPIC_ID, [batch(2, 3, {key(): row_of(1)}, watermark=W0 - 5)])
    assert state() == PartitionWatermark(W0, idle=True)
    started.flush(TOPIC, TOPIC_ID, [batch(3, 4, {key(): row_of(1)}, watermark=W0 + 5)])
    assert state() == PartitionWatermark(W0 + 5, idle=False)
    started.mark_idle(TOPIC, [0, 1])
    assert closing.watermarks(TOPIC)[1] == PartitionWatermark(None, idle=True)
    started.start(TOPIC, TOPIC_ID, {0: 0})
    assert not state().idle
    with psycopg.connect(revealed(settings.timescale_url)) as session:
        session.execute("UPDATE stream_progress SET updated_at = updated_at - interval '1 minute'")
    assert not closing.watermarks(TOPIC)[1].idle
