"""A small scenario around the real intake and the real counting: a broker, a database and Redis in memory.

Real are ``Fetcher``, ``Validation``, ``Aggregator``, ``EventValidator``, ``SeenIds``, ``aggregate``. The rest keeps the
contracts of librdkafka's consumer, ``CountStore``, ``CountCache`` and ``DeadLetters``, and fails on demand.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
import redis
from confluent_kafka import Message

from funnelwatch.schemas.codec import Reason, RegistryUnavailable, Undecodable
from funnelwatch.schemas.counts import CountRow, Series
from funnelwatch.schemas.funnels import Funnel
from funnelwatch.schemas.settings import Settings
from funnelwatch.schemas.validation import Limits
from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.base import Flushed, MisplacedError, Progress, TopicRecreatedError
from funnelwatch.sinks.redis.keys import Mark
from funnelwatch.sinks.redis.state import NOTHING_YET_MS, CacheState, IncompleteError
from funnelwatch.sinks.timescale.cache import Place
from funnelwatch.sinks.timescale.counts import merged
from funnelwatch.stream.aggregate import aggregator
from funnelwatch.stream.aggregate.cache_debt import CacheDebt
from funnelwatch.stream.aggregate.cache_rebuild import CacheRebuild
from funnelwatch.stream.intake import fetcher, validation
from funnelwatch.stream.intake.horizons import ReadingHorizons
from funnelwatch.stream.intake.validator import EventValidator
from tests.traffic import STEPS, row_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from funnelwatch.schemas.counts import Counts, Durations, PartitionCounts
    from funnelwatch.sinks.redis.state import MoveMark
    from funnelwatch.stream.intake.batches import Rejected
    from funnelwatch.stream.intake.polled_batch import PartitionAssignment, ValidatedPoll
    from funnelwatch.stream.native.poll_buffer import PollBuffer

HORIZON_S = 30.0
TOPIC = "events"
SETTINGS = Settings(
    events_topic=TOPIC,
    duplicate_horizon_s=HORIZON_S,
    window_s=10,
    flush_interval_s=3.0,  # of the model's clock, which a call of poll moves on by one
    flush_max_events=7,
)
START = 1_700_000_000_000
SESSION_MS = 80_000
FUNNELS = {"sign_up": Funnel(STEPS, session_window_ms=SESSION_MS)}
HORIZONS = ReadingHorizons(int(HORIZON_S * 1000), SESSION_MS, 1_000)


class CrashError(BaseException):
    """kill -9: nothing of the worker runs after this."""


class Broker:
    """Logs, whose offsets may have gaps, as transactions and compaction make them."""

    def __init__(self, partitions: int) -> None:
        self.logs: list[list[Message]] = [[] for _ in range(partitions)]
        self.ends = [0] * partitions

    def append(self, partition: int, content: bytes, time: int, gap: int) -> None:
        """One more record, ``gap`` offsets after the last one."""
        at = self.ends[partition] + gap
        message = Message(partition=partition, offset=at, key=b"k", value=content, timestamp=(1, time))
        self.logs[partition].append(message)
        self.ends[partition] = at + 1


class Consumer:
    """librdkafka's consumer, as far as the intake uses it; a rebalance is served within ``poll``."""

    broker: Broker
    clock: Clock

    def __init__(self, properties: Any, logger: Any = None) -> None:
        self.positions: dict[int, int] = {}
        self.paused: set[int] = set()
        self.to_assign: list[int] = []
        self.to_revoke: list[int] = []

    def subscribe(self, topics: Any, on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        """Remember the callbacks."""
        self._on_assign, self._on_revoke = on_assign, on_revoke

    def poll(self, timeout: float) -> None:
        """Serve a rebalance."""
        self.clock.now += 1
        if self.to_revoke:
            gone, self.to_revoke = self.to_revoke, []
            self._on_revoke(self, [SimpleNamespace(partition=number) for number in gone])
            for number in gone:
                self.positions.pop(number, None)
        if self.to_assign:
            come, self.to_assign = self.to_assign, []
            self._on_assign(self, [SimpleNamespace(partition=number) for number in come])

    def records(self) -> list[Message]:
        """Up to two records of each partition, which come to a queue."""
        found: list[Message] = []
        for number, position in self.positions.items():
            if number in self.paused:
                continue
            ahead = [one for one in self.broker.logs[number] if one.offset() >= position][:2]
            if ahead:
                self.positions[number] = ahead[-1].offset() + 1
            found += ahead
        return found

    def incremental_assign(self, partitions: Any) -> None:
        """Begin there."""
        self.positions |= {one.partition: one.offset for one in partitions}

    def resume(self, partitions: Any) -> None:
        """Fetch these again. Nothing else does so: not even to be assigned anew."""
        self.paused -= {one.partition for one in partitions}

    def assignment(self) -> list[Any]:
        """What it has."""
        return [SimpleNamespace(partition=number) for number in self.positions]

    def seek(self, partition: Any) -> None:
        """Go on there."""
        self.positions[partition.partition] = partition.offset

    def pause(self, partitions: Any) -> None:
        """Fetch nothing of these."""
        self.paused |= {one.partition for one in partitions}

    def get_watermark_offsets(self, partition: Any, timeout: float = 0) -> tuple[int, int]:
        """Beginning and end."""
        return 0, self.broker.ends[partition.partition]

    def offsets_for_times(self, partitions: Any, timeout: float) -> list[Any]:
        """The first offset whose time is not before the one that is given in place of an offset."""
        found = []
        for one in partitions:
            log = self.broker.logs[one.partition]
            young = [message.offset() for message in log if message.timestamp()[1] >= one.offset]
            found.append(SimpleNamespace(partition=one.partition, offset=young[0] if young else -1, error=None))
        return found

    def commit(self, offsets: Any, asynchronous: bool) -> None:
        """For lag tools only."""


class Queue:
    """The queue to which the records of partitions go."""

    def __init__(self, make: Callable[[Any], Consumer], properties: Any) -> None:
        self.consumer = make(properties)

    def forward(self, topic: str, partitions: Any) -> None:
        """They always come here."""

    def take(self, buffer: PollBuffer, timeout_s: float, most: int) -> None:
        """What has come."""
        for message in self.consumer.records():
            partition, offset, timestamp = message.partition(), message.offset(), message.timestamp()[1]
            assert partition is not None
            assert offset is not None
            buffer.add(partition, offset, timestamp, b"k", message.value())


class Clock:
    """Seconds that only the model moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


@dataclass
class Store:
    """A ``CountSink`` in memory: a flush is written whole or not at all, and only where the partition stands."""

    counts: Counts = field(default_factory=dict)
    durations: Durations = field(default_factory=dict)
    progress: dict[int, Progress] = field(default_factory=dict)
    rejected: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    fail_before: int = 0
    fail_after: int = 0
    topic_id: str = ""

    def flush(self, topic: str, topic_id: str, batches: Sequence[PartitionCounts]) -> Flushed:
        """See ``CountSink.flush``."""
        if self.fail_before:
            self.fail_before -= 1
            raise psycopg.OperationalError("away")
        flushed = Flushed()
        wanted = []
        for batch in batches:
            if topic_id != self.topic_id or batch.partition not in self.progress:
                raise TopicRecreatedError
            next_offset = self.progress[batch.partition].next_offset
            if batch.next_offset <= next_offset:
                flushed.skipped.append(batch.partition)
            elif batch.start_offset != next_offset:
                raise MisplacedError(batch.partition, next_offset, batch.start_offset)
            else:
                wanted.append(batch)
        added = merged([batch.counts.by_name() for batch in wanted])
        self.counts = merged([self.counts, added])
        self.durations = merged([self.durations, *(batch.counts.durations() for batch in wanted)])
        flushed.totals = WindowCounts.of({key: list(self.counts[key]) for key in added})
        for batch in wanted:
            times = [time for time in (self.progress[batch.partition].log_time, batch.log_time) if time is not None]
            self.progress[batch.partition] = Progress(batch.next_offset, max(times, default=None))
            self.rejected[batch.partition].update(batch.rejected_offsets)
        if self.fail_after:
            self.fail_after -= 1
            raise psycopg.OperationalError("the answer was lost")
        return flushed

    def start(self, topic: str, topic_id: str, beginnings: dict[int, int]) -> dict[int, Progress]:
        """See ``CountSink.start``."""
        if self.topic_id not in ("", topic_id):
            raise TopicRecreatedError
        self.topic_id = topic_id
        return {number: self.progress.setdefault(number, Progress(begin, None)) for number, begin in beginnings.items()}

    def rejected_offsets(self, topic: str, partition: int, from_offset: int) -> frozenset[int]:
        """See ``CountStore.rejected_offsets``."""
        return frozenset(self.rejected[partition])

    def mark_idle(self, topic: str, partitions: list[int]) -> None:
        """Not looked at."""


class Source:
    """What ``CacheSource`` promises; the lock belongs to a worker until it lets go or dies."""

    def __init__(self, store: Store, locks: dict[str, Source]) -> None:
        self._store = store
        self._locks = locks

    def counted(self, topic: str) -> dict[int, Place]:
        """See ``CacheSource.counted``."""
        return {number: Place("t", one.next_offset, True) for number, one in self._store.progress.items()}

    def read(self, from_ms: int, to_ms: int, funnel: str | None = None) -> WindowCounts:
        """See ``CacheSource.read``."""
        return WindowCounts.of(
            {
                key: list(tally)
                for key, tally in self._store.counts.items()
                if from_ms <= key[0] < to_ms and funnel in (None, key[1].funnel)
            }
        )

    def lock(self, prefix: str) -> bool:
        """See ``CacheSource.lock``."""
        return self._locks.setdefault(prefix, self) is self

    def close(self) -> None:
        """See ``CacheSource.close``."""
        for prefix in [prefix for prefix, owner in self._locks.items() if owner is self]:
            del self._locks[prefix]


@dataclass
class CachedWindows:
    """A ``TotalsSink`` in memory: takes nothing without an epoch, only raises counts, and keeps marks."""

    counts: dict[Any, list[int]] = field(default_factory=dict)
    epoch: str = ""
    epochs: int = 0
    copies: int = 0
    whole: tuple[str, int, int] = "", 0, 0
    marks: dict[int, Mark] = field(default_factory=dict)
    fail: int = 0

    def oldest(self, now_ms: int) -> int:
        """Everything is cache."""
        return START - 3_600_000

    def _guard(self) -> None:
        if self.fail:
            self.fail -= 1
            raise redis.ConnectionError("away")

    def write(self, totals: WindowCounts, now_ms: int, marks: Sequence[MoveMark] = (), epoch: str = "") -> bool:
        """See ``TotalsSink.write``."""
        self._guard()
        if not self.epoch or epoch not in ("", self.epoch):
            raise IncompleteError
        continued = True
        for move in marks:
            mark = self.marks.get(move.partition)
            if mark is None or mark.offset < move.least:
                continued = False
                self.marks[move.partition] = Mark(move.topic_id, move.to, self.copies)
            elif mark.offset < move.to:
                self.marks[move.partition] = Mark(move.topic_id, move.to, self.copies if move.owes else mark.owes)
        for key, tally in totals.by_name().items():
            shown = self.counts.get(key, row_of())
            self.counts[key] = [max(pair) for pair in zip(shown, tally, strict=True)]
        return continued

    def read(self, funnel: str, window_ms: int) -> dict[Series, CountRow]:
        """See ``TotalsSink.read``."""
        self._guard()
        of_window = {key[1]: tally for key, tally in self.counts.items() if key[0] == window_ms}
        return {series: CountRow(*tally) for series, tally in of_window.items() if series.funnel == funnel}

    def probe(self) -> None:
        """See ``CountCache.probe``."""
        self._guard()

    def learn_repairs(self) -> None:
        """Nothing is repaired here."""
        self._guard()

    def state(self) -> CacheState:
        """See ``CountCache.state``."""
        self._guard()
        is_now = bool(self.epoch) and self.whole[0] == self.epoch
        copied, whole_from = self.whole[1:] if is_now else (0, NOTHING_YET_MS)
        return CacheState(self.epoch, self.copies, copied, whole_from, dict(self.marks))

    def begin_epoch(self) -> str:
        """See ``CountCache.begin_epoch``."""
        self._guard()
        if not self.epoch:
            self.epochs += 1
            self.epoch = str(self.epochs)
        return self.epoch

    def begin_copy(self, epoch: str) -> int:
        """See ``CountCache.begin_copy``."""
        self._guard()
        self.copies += 1
        self.whole = epoch, self.copies, NOTHING_YET_MS
        return self.copies

    def tell_whole(self, epoch: str, number: int, from_ms: int) -> None:
        """See ``CountCache.tell_whole``."""
        self._guard()
        self.whole = epoch, number, from_ms

    def set_marks(self, what: str, marks: Sequence[tuple[int, str, int]], epoch: str = "") -> None:
        """See ``set_marks.lua``."""
        self._guard()
        if not self.epoch or epoch not in ("", self.epoch):
            raise IncompleteError
        for partition, topic_id, to in marks:
            mark = self.marks.get(partition)
            if what == "owing":
                if mark is not None:
                    self.marks[partition] = mark._replace(owes=self.copies)
            elif what == "begun" and (mark is None or mark.offset < to):
                self.marks[partition] = Mark(topic_id, to, self.copies - 1)
            elif what == "settled" and (mark is None or mark.offset <= to):
                self.marks[partition] = Mark(topic_id, to)

    def close(self) -> None:
        """Nothing to let go."""

    def clear(self) -> None:
        """See ``CountCache.clear``."""
        self.lose_everything()

    def lose_everything(self) -> None:
        """FLUSHALL, or a restart without data."""
        self.counts, self.epoch, self.copies, self.whole, self.marks = {}, "", 0, ("", 0, 0), {}

    def saved(self) -> CachedWindows:
        """What is on its disk."""
        kept = {key: list(tally) for key, tally in self.counts.items()}
        return CachedWindows(kept, self.epoch, self.epochs, self.copies, self.whole, dict(self.marks))

    def restore(self, saved: CachedWindows) -> None:
        """Go on from an earlier state."""
        self.counts = {key: list(tally) for key, tally in saved.counts.items()}
        self.epoch, self.copies, self.whole = saved.epoch, saved.copies, saved.whole
        self.marks = dict(saved.marks)


class Letters:
    """What ``DeadLetters`` promises: at least once."""

    def __init__(self) -> None:
        self.places: set[tuple[int, int]] = set()

    def send(self, partition: int, rejected: list[Rejected]) -> None:
        """Keep them."""
        self.places |= {(partition, letter.record.offset) for letter in rejected}


class NeverStopping:
    """An event that is never set, and on which nobody waits long."""

    def wait(self, seconds: float) -> bool:
        """At once."""
        return False

    def is_set(self) -> bool:
        """Never."""
        return False


@dataclass(eq=False)
class Worker:
    """A real intake, a real validation and a real aggregator; between them the channel."""

    fetcher: Any
    validation: Any
    aggregator: Any
    rebuild: CacheRebuild
    debt: CacheDebt
    channel: list[ValidatedPoll] = field(default_factory=list)

    @property
    def consumer(self) -> Consumer:
        """Its consumer."""
        consumer: Consumer = self.fetcher._consumer
        return consumer


class Scenario:
    """Broker, database, Redis, and workers; who crashes loses its memory and nothing else."""

    def __init__(self, partitions: int) -> None:
        self.now_ms = START
        self.broker = Broker(partitions)
        self.clock = Clock()
        self.store = Store()
        self.cache = CachedWindows()
        self.locks: dict[str, Source] = {}
        self.letters = Letters()
        self.registry_fails_at = 0
        self.at_point: Callable[[str], None] = lambda _: None
        self._kept = (
            fetcher.Consumer,
            fetcher.PartitionQueue,
            fetcher.time,
            validation.failpoint,
            aggregator.failpoint,
        )
        Consumer.broker, Consumer.clock = self.broker, self.clock
        fetcher.Consumer, fetcher.PartitionQueue, fetcher.time = Consumer, Queue, self.clock  # type: ignore[misc, assignment]
        validation.failpoint = aggregator.failpoint = lambda name: self.at_point(name)  # noqa: PLW0108 - at_point is changed later

    def close(self) -> None:
        """Give the modules back what is theirs."""
        fetcher.Consumer, fetcher.PartitionQueue, fetcher.time, validation.failpoint, aggregator.failpoint = self._kept  # type: ignore[misc]

    def worker(self) -> Worker:
        """A worker that has just started."""
        stopping: Any = NeverStopping()
        store: Any = self.store
        intake = fetcher.Fetcher(SETTINGS, lambda: "t", store, stopping, horizons=HORIZONS)
        rewind: Callable[[PartitionAssignment], None] = intake.rewind
        validator = validation.Validation(
            validator=EventValidator(self.decode, FUNNELS, Limits(300_000, 86_400_000), 1_000),
            dead_letters=self.letters,  # type: ignore[arg-type]
            stopping=stopping,
            keep_alive=intake.keep_alive,
            now_ms=lambda: self.now_ms,
        )
        debt = CacheDebt()
        rebuild = CacheRebuild(
            settings=SETTINGS,
            source=Source(self.store, self.locks),  # type: ignore[arg-type]
            cache=self.cache,  # type: ignore[arg-type]
            debt=debt,
            assigned=intake.assignments,
            now_ms=lambda: self.now_ms,
            monotonic=self.clock.monotonic,
        )
        counter = aggregator.Aggregator(
            settings=SETTINGS,
            store=store,
            cache=self.cache,  # type: ignore[arg-type]
            debt=debt,
            rewind=rewind,
            commit=intake.commit,
            stopping=stopping,
            now_ms=lambda: self.now_ms,
        )
        return Worker(intake, validator, counter, rebuild, debt)

    def decode(self, value: bytes | None) -> dict[str, Any]:
        """Events are written as ``number ago verdict duration``."""
        if self.registry_fails_at:
            self.registry_fails_at -= 1
            if not self.registry_fails_at:
                raise RegistryUnavailable("away")
        return read(value or b"")


def read(value: bytes) -> dict[str, Any]:
    """The event in the bytes."""
    if value == b"garbage":
        raise Undecodable(Reason.INVALID_AVRO, "garbage")
    number, ts, verdict, duration = value.decode().split()
    verified = verdict != "-"
    return {
        "event_id": number,
        "funnel": "sign_up",
        "sign_up_session_id": f"s{int(number) // 4}",
        "step": STEPS[int(number) % 2],
        "os": "iOS",
        "browser": "",
        "app_version": "",
        "contexts": {},
        "phase": "POST_VERIFICATION" if verified else "IMPRESSION",
        "status": verdict if verified else None,
        "ts": int(ts),
        "duration_ms": int(duration) if verified else None,
    }
