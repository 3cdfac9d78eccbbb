"""A small world around the real intake and the real counting: a broker, a database and Redis in memory.

Real are ``Fetcher``, ``Judging``, ``Aggregator``, ``Judge``, ``SeenIds`` and ``tally``. What is written here keeps the
contracts of librdkafka's consumer, ``CountStore``, ``HotCopy`` and ``DeadLetters``, and fails on demand.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
import redis
from confluent_kafka import Message

from funnelwatch.settings import Settings
from schemas.codec import Reason, RegistryUnavailable, Undecodable
from sinks.redis.hot import IncompleteError
from sinks.timescale.counts import Flushed, MisplacedError, Progress, merged
from stream import aggregate, intake, judging
from stream.counting import Judge
from stream.model import Counts, Durations, PartitionCounts, Series, Tally
from stream.validation import Limits
from tests.traffic import STEPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream.counting import Refused
    from stream.fetch import Assigned, JudgedFetch

HORIZON_S = 100.0
TOPIC = "events"
SETTINGS = Settings(
    events_topic=TOPIC,
    duplicate_horizon_s=HORIZON_S,
    window_s=10,
    flush_interval_s=3.0,  # of the model's clock, which a call of consume moves on by one
    flush_max_events=7,
)
START = 1_700_000_000_000


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
    """librdkafka's consumer, as far as the intake uses it; a rebalance is served within ``consume``."""

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

    def consume(self, count: int, timeout: float) -> list[Message]:
        """Up to three messages a call, in turns of the partitions."""
        self.clock.now += 1
        if self.to_revoke:
            gone, self.to_revoke = self.to_revoke, []
            self._on_revoke(self, [SimpleNamespace(partition=number) for number in gone])
            for number in gone:
                self.positions.pop(number, None)
        if self.to_assign:
            come, self.to_assign = self.to_assign, []
            self._on_assign(self, [SimpleNamespace(partition=number) for number in come])
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


class Clock:
    """Seconds that only the model moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


@dataclass
class Store:
    """What ``CountStore`` promises: a flush is written whole or not at all, and only where the partition stands."""

    counts: Counts = field(default_factory=dict)
    durations: Durations = field(default_factory=dict)
    progress: dict[int, Progress] = field(default_factory=dict)
    refused: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    fail_before: int = 0
    fail_after: int = 0

    def flush(self, topic: str, topic_id: str, batches: list[PartitionCounts]) -> Flushed:
        """See ``CountStore.flush``."""
        if self.fail_before:
            self.fail_before -= 1
            raise psycopg.OperationalError("away")
        flushed = Flushed()
        wanted = []
        for batch in batches:
            next_offset = self.progress[batch.partition].next_offset
            if batch.next_offset <= next_offset:
                flushed.skipped.append(batch.partition)
            elif batch.start_offset != next_offset:
                raise MisplacedError(batch.partition, next_offset, batch.start_offset)
            else:
                wanted.append(batch)
        added = merged([{key: list(tally) for key, tally in batch.counts.items()} for batch in wanted])
        self.counts = merged([self.counts, added])
        took = [{key: list(slots) for key, slots in batch.durations.items()} for batch in wanted]
        self.durations = merged([self.durations, *took])
        flushed.totals = {key: list(self.counts[key]) for key in added}
        for batch in wanted:
            times = [time for time in (self.progress[batch.partition].log_time, batch.log_time) if time is not None]
            self.progress[batch.partition] = Progress(batch.next_offset, max(times, default=None))
            self.refused[batch.partition].update(batch.refused_offsets)
        if self.fail_after:
            self.fail_after -= 1
            raise psycopg.OperationalError("the answer was lost")
        return flushed

    def start(self, topic: str, topic_id: str, beginnings: dict[int, int]) -> dict[int, Progress]:
        """See ``CountStore.start``."""
        return {number: self.progress.setdefault(number, Progress(begin, None)) for number, begin in beginnings.items()}

    def refused_offsets(self, topic: str, partition: int, from_offset: int) -> frozenset[int]:
        """See ``CountStore.refused_offsets``."""
        return frozenset(self.refused[partition])

    def mark_idle(self, topic: str, partitions: list[int]) -> None:
        """Not looked at."""

    def read(self, from_ms: int, to_ms: int) -> Iterator[tuple[int, Series, Tally]]:
        """See ``CountStore.read``."""
        for key, tally in list(self.counts.items()):
            if from_ms <= key[0] < to_ms:
                yield key[0], Series(*key[1:]), Tally(*tally)


@dataclass
class Hot:
    """What ``HotCopy`` promises: nothing without an epoch, and counts are only raised."""

    counts: dict[Any, list[int]] = field(default_factory=dict)
    epoch: bool = False
    fail: int = 0

    def oldest(self, now_ms: int) -> int:
        """Everything is hot."""
        return START - 3_600_000

    def _guard(self) -> None:
        if self.fail:
            self.fail -= 1
            raise redis.ConnectionError("away")

    def write(self, totals: Counts, now_ms: int) -> None:
        """See ``HotCopy.write``."""
        self._guard()
        if not self.epoch:
            raise IncompleteError
        for key, tally in totals.items():
            shown = self.counts.get(key, [0] * 5)
            self.counts[key] = [max(pair) for pair in zip(shown, tally, strict=True)]

    def rebuild(self, rows: Any, now_ms: int) -> int:
        """See ``HotCopy.rebuild``."""
        self._guard()
        self.epoch = True
        copied = 0
        for window, series, tally in rows:
            self.write({(window, *series): list(tally)}, now_ms)
            copied += 1
        return copied


class Letters:
    """What ``DeadLetters`` promises: at least once."""

    def __init__(self) -> None:
        self.places: set[tuple[int, int]] = set()

    def send(self, partition: int, refused: list[Refused]) -> None:
        """Keep them."""
        self.places |= {(partition, letter.record.offset) for letter in refused}


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
    """A real intake, a real judging and a real aggregator; between them the channel."""

    fetcher: Any
    judging: Any
    aggregator: Any
    channel: list[JudgedFetch] = field(default_factory=list)

    @property
    def consumer(self) -> Consumer:
        """Its consumer."""
        consumer: Consumer = self.fetcher._consumer
        return consumer


class World:
    """Broker, database, Redis, and workers; who crashes loses its memory and nothing else."""

    def __init__(self, partitions: int) -> None:
        self.now_ms = START
        self.broker = Broker(partitions)
        self.clock = Clock()
        self.store = Store()
        self.hot = Hot()
        self.letters = Letters()
        self.registry_fails_at = 0
        self.at_point: Callable[[str], None] = lambda _: None
        self._kept = (intake.Consumer, intake.time, judging.point, aggregate.point, aggregate.time)
        Consumer.broker, Consumer.clock = self.broker, self.clock
        intake.Consumer, intake.time = Consumer, self.clock  # type: ignore[misc, assignment]
        judging.point = aggregate.point = lambda name: self.at_point(name)  # noqa: PLW0108 - at_point is changed later
        aggregate.time = SimpleNamespace(monotonic=self.clock.monotonic, perf_counter=self.clock.monotonic)  # type: ignore[assignment]

    def close(self) -> None:
        """Give the modules back what is theirs."""
        intake.Consumer, intake.time, judging.point, aggregate.point, aggregate.time = self._kept  # type: ignore[misc]

    def worker(self) -> Worker:
        """A worker that has just started."""
        stopping: Any = NeverStopping()
        store: Any = self.store
        fetcher = intake.Fetcher(SETTINGS, lambda: "t", store, stopping)
        rewind: Callable[[Assigned], None] = fetcher.rewind
        judge = judging.Judging(
            judge=Judge(self.decode, {"sign_up": STEPS}, Limits(300_000, 86_400_000), 1_000),
            dead_letters=self.letters,  # type: ignore[arg-type]
            stopping=stopping,
            keep_alive=fetcher.keep_alive,
            now_ms=lambda: self.now_ms,
        )
        counter = aggregate.Aggregator(
            settings=SETTINGS,
            store=store,
            hot=self.hot,  # type: ignore[arg-type]
            rewind=rewind,
            commit=fetcher.commit,
            stopping=stopping,
            now_ms=lambda: self.now_ms,
        )
        return Worker(fetcher, judge, counter)

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
        "sign_up_session_id": "s",
        "step": STEPS[int(number) % 2],
        "os": "iOS",
        "browser": "",
        "app_version": "",
        "phase": "POST_VERIFICATION" if verified else "IMPRESSION",
        "status": verdict if verified else None,
        "ts": int(ts),
        "duration_ms": int(duration) if verified else None,
    }
