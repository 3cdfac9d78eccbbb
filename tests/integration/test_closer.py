"""The closer on real Kafka and a real database: every window once, in order, and again when late events change it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.schemas.validation import Limits
from funnelwatch.sinks.timescale.closing import ClosingStore
from funnelwatch.stream.aggregate.aggregation import aggregate
from funnelwatch.stream.closing import closer as closer_module
from funnelwatch.stream.closing import windows as window_records
from funnelwatch.stream.closing.closer import Closer
from funnelwatch.stream.closing.windows import Assembler
from funnelwatch.stream.intake.batches import Record, RecordBatch, Records
from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.validator import EventValidator
from tests.traffic import closed_windows, event, prepared

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.counts import CountStore
    from funnelwatch.sinks.timescale.database import Database

MINUTE = 60_000
T0 = 1_700_000_040_000
HOUR = 60 * MINUTE


class Closing:
    """A closer whose clock is set by hand, and the counts that it closes: one partition, filled directly."""

    def __init__(self, settings: Settings, store: CountStore, connect: Callable[[], Database]) -> None:
        self.settings = prepared(
            settings.model_copy(
                update={
                    "topic_partitions": 1,
                    "allowed_disorder_s": 0.0,
                    "late_settle_s": 0.0,
                    "active_horizon_s": 300.0,
                }
            )
        )
        self.store = store
        self.connect = connect
        self.now = T0
        self.offset = 0
        store.start(settings.events_topic, "id", {0: 0})
        self.closer = self.another()

    def another(self) -> Closer:
        """One more closer, over a connection of its own."""
        return Closer(
            settings=self.settings,
            store=ClosingStore(self.connect()),
            partitions=lambda: 1,
            registry=None,
            stopping=threading.Event(),
            now_ms=lambda: self.now,
        )

    def count(self, *times: int, **changes: Any) -> None:
        """Count events of these times; the clock goes along."""
        self.now = max(self.now, *times)
        events = [event(ts=ts, **changes) for ts in times]
        validate = EventValidator(lambda value: events[int(value or b"")], {}, Limits(0, 10**13), 100)
        end = self.offset + len(times)
        records = [Record(self.offset + at, b"k", str(at).encode(), self.now) for at in range(len(times))]
        validated = validate(RecordBatch(0, self.offset, end, Records.of(records)), SeenIds(0), self.now)
        self.store.flush(self.settings.events_topic, "id", [aggregate(validated, MINUTE, 0, self.now)])
        self.offset = end

    def published(self) -> list[tuple[int, int, dict[str, int]]]:
        """What is in the windows topic, in order: minutes since T0, revision, and impressions by os."""
        assembler = Assembler()
        windows = [window for record in closed_windows(self.settings) if (window := assembler.add(record))]
        return [
            (
                (window.window_start - T0) // MINUTE,
                window.revision,
                {series.value("os"): counts.impressions for series, counts in window.series.items()},
            )
            for window in windows
        ]


@pytest.fixture
def closing(settings: Settings, store: CountStore, connect: Callable[[], Database]) -> Closing:
    """A closer over an empty database."""
    return Closing(settings, store, connect)


def test_every_window_is_published_once_in_order_with_zeros_for_the_active(closing: Closing) -> None:
    """The window that the watermark is in stays open; its edge is exact to the millisecond."""
    assert closing.closer.round() == 0
    closing.count(T0, T0 + MINUTE - 1)
    assert closing.closer.round() == 0
    closing.count(T0 + MINUTE, os="Android")
    assert closing.closer.round() == 1
    closing.count(T0 + 4 * MINUTE, os="Android")
    assert closing.closer.round() == 3
    assert closing.closer.round() == 0
    assert closing.published() == [
        (0, 0, {"iOS": 2}),
        (1, 0, {"Android": 1, "iOS": 0}),
        (2, 0, {"Android": 0, "iOS": 0}),
        (3, 0, {"Android": 0, "iOS": 0}),
    ]


def test_an_earlier_window_that_comes_as_the_first_is_about_to_be_closed_is_published(
    closing: Closing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush that was under way when the closer asked for the first window is waited for; what it brought counts."""
    closing.count(T0 + 2 * MINUTE, T0 + 3 * MINUTE)
    closing_store = closing.closer._store
    start_closing = closing_store.start_closing

    def after_a_flush(funnel: str, through_ms: int) -> None:
        monkeypatch.undo()
        closing.count(T0)
        start_closing(funnel, through_ms)

    monkeypatch.setattr(closing_store, "start_closing", after_a_flush)
    closing.closer.round()
    assert closing.published() == [(0, 0, {"iOS": 1}), (1, 0, {"iOS": 0}), (2, 0, {"iOS": 1})]


def test_a_stretch_with_nothing_active_is_passed_over(closing: Closing) -> None:
    """After the active horizon of five minutes a silent funnel is not published until it has events again."""
    closing.count(T0)
    closing.count(T0 + 10 * HOUR)
    closing.closer.round()
    closing.count(T0 + 10 * HOUR + MINUTE)
    closing.closer.round()
    assert [minute for minute, _, _ in closing.published()] == [0, 1, 2, 3, 4, 5, 600]


def test_late_events_publish_their_window_again_as_the_next_revision(closing: Closing) -> None:
    """Each time that late events change a closed window, it comes with one revision more and all its counts."""
    closing.count(T0)
    closing.count(T0 + 2 * MINUTE)
    closing.closer.round()
    closing.count(T0 + 1)
    assert closing.closer.round() == 1
    assert closing.closer.round() == 0
    closing.count(T0 + 2, T0 + 3)
    closing.closer.round()
    assert closing.published() == [(0, 0, {"iOS": 1}), (1, 0, {"iOS": 0}), (0, 1, {"iOS": 2}), (0, 2, {"iOS": 4})]


def test_a_crash_between_publishing_and_recording_publishes_the_same_again(
    closing: Closing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next closer repeats the windows as the same revision 0, and goes on."""
    closing.count(T0)
    closing.count(T0 + 2 * MINUTE)

    def crash(*_: object) -> None:
        raise RuntimeError("crash")

    with monkeypatch.context() as broken:
        broken.setattr(closing.closer._store, "finish_closing", crash)
        with pytest.raises(RuntimeError, match="crash"):
            closing.closer.round()
    before = closing.published()
    assert before
    closing.closer._store._database.close()
    assert closing.another().round() == 2
    after = closing.published()
    assert after[: len(before)] == after[len(before) : 2 * len(before)] == before
    assert sorted({minute for minute, _, _ in after}) == [0, 1]


def test_of_two_closers_at_a_time_one_closes(closing: Closing) -> None:
    """Four closers that go at once publish each window once."""
    closing.count(T0)
    closing.count(T0 + 30 * MINUTE)
    others = [closing.another() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        published = list(pool.map(lambda one: one.round(), others))
    assert max(published) == sum(published)
    for one in others:
        one.round()
    assert [minute for minute, _, _ in closing.published()] == [0, 1, 2, 3, 4, 5]


def test_a_closer_goes_on_where_another_ended(closing: Closing) -> None:
    """Active series are found in the database, so another worker publishes the same zeros."""
    closing.count(T0, T0 + MINUTE)
    closing.closer.round()
    closing.count(T0 + 3 * MINUTE, os="Android")
    closing.another().round()
    assert closing.published() == [(0, 0, {"iOS": 1}), (1, 0, {"iOS": 1}), (2, 0, {"iOS": 0})]


def test_a_large_window_comes_in_parts_and_many_windows_in_pieces(
    closing: Closing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small limits on parts and memory change nothing of what a reader puts together."""
    monkeypatch.setattr(closer_module, "ROWS_AT_ONCE", 50)
    monkeypatch.setattr(closer_module, "parts_of", lambda window: window_records.parts_of(window, 7))
    for number in range(20):
        closing.count(T0, T0 + 3 * MINUTE, os=f"os{number:02}")
    closing.closer.round()
    assert [(minute, sum(counts.values()), len(counts)) for minute, _, counts in closing.published()] == [
        (0, 20, 20),
        (1, 0, 20),
        (2, 0, 20),
    ]
    assert {record["parts"] for record in closed_windows(closing.settings)} == {3}


def test_a_partition_nobody_reads_holds_the_windows_back(closing: Closing) -> None:
    """With a partition that was never assigned, or that has unread events, nothing closes."""
    closing.count(T0, T0 + 2 * MINUTE)
    closing.closer._partitions = lambda: 2
    assert closing.closer.round() == 0
    closing.store.start(closing.settings.events_topic, "id", {1: 0})
    assert closing.closer.round() == 0
    closing.store.mark_idle(closing.settings.events_topic, [1])
    assert closing.closer.round() == 2


def test_when_all_are_idle_the_clock_closes_the_last_window(closing: Closing) -> None:
    """The last window of a quiet night closes by wall time."""
    closing.count(T0)
    closing.now = T0 + MINUTE
    assert closing.closer.round() == 0
    closing.store.mark_idle(closing.settings.events_topic, [0])
    assert closing.closer.round() == 1
    assert closing.published() == [(0, 0, {"iOS": 1})]


def test_no_window_is_closed_too_early_while_flushes_go_on(closing: Closing) -> None:
    """Whatever is counted while windows close is in the first publication or in a revision: the last one has it all."""
    closing.count(T0)
    over = threading.Event()
    rounds = closing.another()

    def close() -> None:
        while not over.is_set():
            rounds.round()

    with ThreadPoolExecutor(1) as pool:
        closes = pool.submit(close)
        try:
            for number in range(60):
                closing.count(T0 + number * 10_000, T0 + max(0, number - 9) * 10_000)
        finally:
            over.set()
        closes.result(90)
    closing.count(T0 + 20 * MINUTE)
    rounds.round()
    last = {minute: counts for minute, _, counts in closing.published()}
    assert sum(counts.get("iOS", 0) for counts in last.values()) == 121
    for minute in range(10):
        expected = sum(
            aggregate.impressions
            for _, _, aggregate in closing.store.read(T0 + minute * MINUTE, T0 + (minute + 1) * MINUTE)
        )
        assert last[minute]["iOS"] == expected
