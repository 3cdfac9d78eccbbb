"""How far each consumer group of the workers is behind, and whether it gets on: two looks, two seconds apart."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from funnelwatch.cli.doctor_services import NOT_YET, TIMEOUT_S, Finding, Level
from funnelwatch.schemas.freshness import lasting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from funnelwatch.schemas.settings import Settings

LOOKS_APART_S = 2.0
YOUNG_S = 15.0
"""Records that are read within this are no lag to speak of."""
STILL_S = 30.0
"""A record that has been unread for longer, while the group reads nothing, is a failure."""
OLD_S = 300.0
"""Figures are old with a record that has been unread for longer, even if the group catches up."""
FIND_OLDEST_S = 3.0
START = "Is a worker running (`funnelwatch worker`)? If so, its log and its /healthz name what it waits for."
MORE = "Run more workers, up to one per partition; then look at the database's load."

END_OF_PARTITION = KafkaError._PARTITION_EOF  # noqa: SLF001 - it has no other name


@dataclass(frozen=True, slots=True)
class Look:
    """A group on a topic: by partition the committed offset (None: none), beginning and end of the log."""

    partitions: Mapping[int, tuple[int | None, int, int]] = field(default_factory=dict)

    @property
    def lag(self) -> int:
        """Records (and markers of transactions) that are not read."""
        return sum(max(0, end - position) for position, end in self.unread().values())

    @property
    def committed(self) -> bool:
        """Whether the group has read anything of the topic, ever."""
        return any(committed is not None for committed, _, _ in self.partitions.values())

    def unread(self) -> dict[int, tuple[int, int]]:
        """Where to read on and the end, of the partitions that are not read to their ends."""
        found = {
            number: (beginning if committed is None else max(committed, beginning), end)
            for number, (committed, beginning, end) in self.partitions.items()
        }
        return {number: (position, end) for number, (position, end) in found.items() if position < end}


@dataclass(frozen=True, slots=True)
class Oldest:
    """How long the oldest unread record has waited, s; None: there is none, or not every partition answered."""

    age_s: float | None
    known: bool = True


def lag_finding(group: str, topic: str, first: Look, second: Look, oldest: Oldest) -> Finding:
    """The finding from two readings of a group; pure."""
    lag, age_s = second.lag, oldest.age_s
    if not second.committed and lag == 0:
        return _finding("ok", f"{group} has not read {topic} yet, and there is nothing to read")
    if lag == 0 or (age_s is None and oldest.known):
        return _finding("ok", f"{group} is 0 record(s) behind on {topic}")
    behind = f"{group} is {lag} record(s) behind on {topic}"
    if age_s is None:
        return _finding("unknown", f"{behind}; their age is unknown", START)
    old = f"the oldest has waited for {lasting(age_s * 1000)}"
    if not second.committed:
        message = f"{group} has not read {topic} yet: {lag} record(s) wait, {old}"
        return _finding("FAILED" if age_s > STILL_S else "warning", message, START)
    if age_s <= YOUNG_S:
        return _finding("ok", behind)
    return _evaluate_old(behind, old, first, second, age_s)


def _evaluate_old(behind: str, old: str, first: Look, second: Look, age_s: float) -> Finding:
    before = {number: committed for number, (committed, _, _) in first.partitions.items()}
    moves = any(before.get(number) != committed for number, (committed, _, _) in second.partitions.items())
    if not moves and age_s > STILL_S:
        return _finding("FAILED", f"{behind} and reads nothing: {old}", START)
    if second.lag > first.lag:
        return _finding("FAILED", f"{behind}, and the lag grows: {old}", MORE)
    if age_s > OLD_S:
        return _finding("FAILED", f"{behind}, and catches up: {old}, so figures are old", MORE)
    return _finding("warning", f"{behind}, and catches up: {old}", MORE)


def _finding(level: Level, message: str, advice: str = "") -> Finding:
    return Finding("consumer group", level, message, advice)


def check_lag(settings: Settings, sleep: Callable[[float], None] = time.sleep) -> Iterator[Finding]:
    """The three groups that read: events, counters and timers, and closed windows.

    A consumer is asked, which never joins the group: the admin client's calls for this were seen to crash the process
    (confluent-kafka 2.16) while the cluster sets up its group coordinator.
    """
    groups = [
        (f"{settings.consumer_group}-events", settings.events_topic),
        (f"{settings.consumer_group}-metrics", settings.metrics_topic),
        (settings.consumer_group, settings.windows_topic),
    ]
    readers = [(group, topic, _Group(settings, group, topic)) for group, topic in groups]
    try:
        looked_s = time.monotonic()
        first = [_try(reader.look) for _, _, reader in readers]
        if any(isinstance(look, Look) and look.lag for look in first):
            sleep(max(0.0, LOOKS_APART_S - (time.monotonic() - looked_s)))
        for (group, topic, reader), look in zip(readers, first, strict=True):
            found = _again(reader, look)
            if isinstance(found, KafkaException):
                message = f"the lag of {group} on {topic} is not known: {found.args[0].str()}"
                advice = "See that Kafka answers, and that this user may read the group and the topic."
                yield Finding("consumer group", "unknown", message, advice)
            elif isinstance(look, Look) and look.partitions:
                yield lag_finding(group, topic, look, *found)
            # Else the topic does not exist, which another finding reports.
    finally:
        for _, _, reader in readers:
            reader.close()


def _try(look: Callable[[], Look]) -> Look | KafkaException:
    try:
        return look()
    except KafkaException as error:
        return error


def _again(reader: _Group, look: Look | KafkaException) -> tuple[Look, Oldest] | KafkaException:
    """The second look where the first has found a lag, and the oldest unread record."""
    if isinstance(look, KafkaException):
        return look
    if not look.lag:
        return look, Oldest(None)
    try:
        again = reader.look()
        return again, reader.oldest(again) if again.lag else Oldest(None)
    except KafkaException as error:
        return error


class _Group:
    def __init__(self, settings: Settings, group: str, topic: str) -> None:
        self._topic = topic
        more = {"group.id": group, "enable.auto.commit": False, "enable.partition.eof": True}
        self._consumer = Consumer({"log_level": 0, **settings.kafka("consumer", **more)})

    def look(self) -> Look:
        # All topics, not this one: some brokers make a topic that they are asked for.
        found = self._consumer.list_topics(timeout=TIMEOUT_S).topics.get(self._topic)
        if found is None:
            return Look()
        partitions = {}
        for one in self._committed([TopicPartition(self._topic, number) for number in sorted(found.partitions)]):
            beginning, end = self._consumer.get_watermark_offsets(one, timeout=TIMEOUT_S)
            partitions[one.partition] = (one.offset if one.offset >= 0 else None, beginning, end)
        return Look(partitions)

    def oldest(self, look: Look) -> Oldest:
        """The age of the unread record that has waited longest, by Kafka's timestamps."""
        left = {number: end for number, (_, end) in look.unread().items()}
        self._consumer.assign(
            [TopicPartition(self._topic, number, position) for number, (position, _) in look.unread().items()]
        )
        oldest_ms: int | None = None
        deadline = time.monotonic() + FIND_OLDEST_S
        while left and time.monotonic() < deadline:
            message = self._consumer.poll(0.2)
            partition = None if message is None else message.partition()
            if message is None or partition not in left:
                continue
            error = message.error()
            if error is None:
                ms = message.timestamp()[1]
                oldest_ms = ms if oldest_ms is None else min(oldest_ms, ms)
            if error is None or error.code() == END_OF_PARTITION:
                del left[partition]
                self._consumer.pause([TopicPartition(self._topic, partition)])
        self._consumer.unassign()
        age_s = None if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000)
        return Oldest(age_s, known=not left)

    def _committed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """The committed offsets; waits while the cluster sets up the group's coordinator."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return self._consumer.committed(partitions, timeout=TIMEOUT_S)
            except KafkaException as error:
                if error.args[0].code() not in NOT_YET or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def close(self) -> None:
        self._consumer.close()
