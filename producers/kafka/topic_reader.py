"""Reads a topic without a consumer group: commits nothing, disturbs no worker, and allows any number of readers.

The reader assigns positions itself and never relies on ``auto.offset.reset=latest``. It learns the end of a partition
from the end-of-partition event of a fetch, because one supported broker (Tansu) lists too low an end. For the same
reason ``follow`` may begin with a few of the last messages there, and never misses one.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from funnelwatch.schemas.errors import FunnelwatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from funnelwatch.schemas.settings import Settings

log = logging.getLogger(__name__)

AT_ONCE = 2_000
POLL_S = 0.2
"""How long one call waits for messages, and so how soon the reader notices an interrupt, s."""

METADATA_TIMEOUT_S = 10.0
SILENCE_S = 15.0
"""A read to the end gives up when no broker has answered for this long, s."""

LOOK_EVERY_S = 10.0
"""Period at which ``follow`` checks for new partitions, s; one second for a topic that does not exist yet."""

FOR_GOOD = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}
"""Errors that waiting cannot help; all others are transient (a leader election, a broker that starts)."""

END_OF_PARTITION = KafkaError._PARTITION_EOF  # noqa: SLF001 - it has no other name
TIMED_OUT = KafkaError._TIMED_OUT  # noqa: SLF001 - likewise


class NoSuchTopicError(FunnelwatchError, LookupError):
    """Kafka has no topic of that name."""


class TrimmedError(FunnelwatchError):
    """The retention removed messages of a partition while they were being read."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        super().__init__(f"partition {partition} was trimmed while it was being read")


class TopicReader:
    """Reads one topic; a context manager, for one thread."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self.topic = topic
        self._consumer = Consumer(
            settings.kafka(
                "consumer",
                **{
                    "client.id": "funnelwatch-reader",
                    # librdkafka requires a name; with assigned partitions it joins and commits nothing.
                    "group.id": f"{settings.consumer_group}-reader-{uuid.uuid4().hex}",
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 100,
                    # By default a full queue pauses the fetcher for a second.
                    "fetch.queue.backoff.ms": 10,
                    "error_cb": lambda error: log.debug("Kafka: %s", error.str()),
                    "log_level": 0,
                },
            )
        )

    def __enter__(self) -> Self:
        """The reader."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._consumer.close()

    def partitions(self) -> list[int]:
        """The partitions of the topic; none where it does not exist.

        Raises:
            KafkaException: Kafka does not answer.
        """
        # Ask for all topics: some brokers create a topic that a client asks for.
        found: Any = self._consumer.list_topics(timeout=METADATA_TIMEOUT_S).topics.get(self.topic)
        return [] if found is None else sorted(found.partitions)

    def range_of(self, partition: int) -> tuple[int, int]:
        """The offsets ``[beginning, end)`` of a partition, as the broker lists them."""
        tp = TopicPartition(self.topic, partition)
        deadline = time.monotonic() + METADATA_TIMEOUT_S
        while True:
            try:
                low, high = self._consumer.get_watermark_offsets(tp, timeout=METADATA_TIMEOUT_S)
            except KafkaException as error:
                # A new topic may have no leader yet.
                if error.args[0].code() in FOR_GOOD or time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)
            else:
                return low, high

    def true_end(self, partition: int) -> int:
        """The offset of a partition's next record, found by reading on from the listed end."""
        end = self.range_of(partition)[1]
        for message in self._read_to_end([TopicPartition(self.topic, partition, end)]):
            end = max(end, _offset(message) + 1)
        return end

    def to_end(self, since_ms: int | None = None) -> Iterator[Message]:
        """Every message of all partitions up to their present ends, with a Kafka timestamp of ``since_ms`` or later.

        Raises:
            NoSuchTopicError: there is no such topic.
            KafkaException: Kafka does not answer.
        """
        starts = [TopicPartition(self.topic, number, self.range_of(number)[0]) for number in self.partitions()]
        if not starts:
            raise NoSuchTopicError(self.topic)
        if since_ms is not None:
            starts = self._since([start.partition for start in starts], since_ms)
        for message in self._read_to_end(starts):
            if since_ms is None or message.timestamp()[1] >= since_ms:
                yield message

    def between(self, since_ms: int, ends: Mapping[int, int]) -> Iterator[Message]:
        """Messages of some partitions before their ends, from the first with a Kafka timestamp of ``since_ms`` on.

        Args:
            since_ms: see above; later messages with earlier timestamps are included.
            ends: partition to an offset in the log, or to its end.

        Raises:
            TrimmedError: the log has lost some of these messages meanwhile.
            KafkaException: Kafka does not answer.
        """
        starts = [tp for tp in self._since(list(ends), since_ms) if tp.offset < ends[tp.partition]]
        yield from self._read_to_end(starts, ends)
        for start in starts:
            if self.range_of(start.partition)[0] > start.offset:
                raise TrimmedError(start.partition)

    def first_timestamp(self, partition: int) -> int | None:
        """The Kafka timestamp of the first message of a partition, ms; None where it is empty.

        Raises:
            KafkaException: Kafka does not answer.
        """
        for message in self._read_to_end([TopicPartition(self.topic, partition, self.range_of(partition)[0])]):
            return message.timestamp()[1]
        return None

    def one(self, partition: int, offset: int) -> Message | None:
        """The message at an offset; None where there is none.

        Raises:
            NoSuchTopicError: there is no such topic.
            KafkaException: Kafka does not answer.
        """
        numbers = self.partitions()
        if not numbers:
            raise NoSuchTopicError(self.topic)
        if partition not in numbers:
            return None
        low, high = self.range_of(partition)
        if offset < low or (offset >= high and offset >= self.true_end(partition)):
            return None
        # A compacted log may have no message at the offset; the next message then comes instead.
        for message in self._read_to_end([TopicPartition(self.topic, partition, offset)]):
            return message if message.offset() == offset else None
        return None

    def at_offsets(self, partition: int, offsets: Collection[int]) -> Iterator[Message]:
        """The messages of a partition at some offsets, without messages that the log no longer has.

        Raises:
            KafkaException: Kafka does not answer.
        """
        if offsets:
            start, end = min(offsets), max(offsets) + 1
            for message in self._read_to_end([TopicPartition(self.topic, partition, start)], {partition: end}):
                if message.offset() in offsets:
                    yield message

    def follow(
        self,
        report: Callable[[str], None],
        *,
        from_beginning: bool = False,
        positions: Mapping[int, int] | None = None,
    ) -> Iterator[Message | None]:
        """New messages for ever, from now on or from the beginning; None while there is none.

        Waits for a topic that does not exist, finds partitions that are added later, and waits out outages.

        Args:
            report: called with a line when following begins, and with the cause of each wait.
            from_beginning: begin with the messages that are there.
            positions: partition to its first offset, where that is neither now nor the beginning.

        Raises:
            KafkaException: Kafka does not answer at the start, or denies this reader the topic.
        """
        followed: set[int] = set()
        numbers = self.partitions()
        if not numbers:
            report(f"{self.topic} does not exist yet; waiting for it (a worker creates it)")
        known = positions or {}
        new = [
            TopicPartition(self.topic, number, known[number])
            if number in known
            else TopicPartition(self.topic, number, 0 if from_beginning else self.range_of(number)[1])
            for number in numbers
        ]
        look_s = time.monotonic()
        while True:
            if new:
                if not followed:
                    report(f"following {self.topic} from {'its beginning' if from_beginning else 'now on'}")
                followed |= {tp.partition for tp in new}
                self._consumer.incremental_assign(new)
                new = []
            none = True
            for message in self._consumer.consume(AT_ONCE, POLL_S):
                if self._is_record(message, report):
                    none = False
                    yield message
            if none:
                yield None
            if time.monotonic() - look_s >= (LOOK_EVERY_S if followed else 1.0):
                look_s = time.monotonic()
                new = self._added(followed, report)

    def _added(self, followed: set[int], report: Callable[[str], None]) -> list[TopicPartition]:
        """Partitions that were added since; all their messages are new."""
        try:
            return [TopicPartition(self.topic, number, 0) for number in self.partitions() if number not in followed]
        except KafkaException as error:
            report(f"Kafka does not answer, waiting: {error.args[0].str()}")
            return []

    def _since(self, partitions: Iterable[int], since_ms: int) -> list[TopicPartition]:
        """The first offset in each partition with a Kafka timestamp of ``since_ms`` or later, or its end."""
        wanted = [TopicPartition(self.topic, number, max(0, since_ms)) for number in partitions]
        found = self._consumer.offsets_for_times(wanted, timeout=METADATA_TIMEOUT_S) if wanted else []
        for tp in found:
            if tp.error is not None:
                raise KafkaException(tp.error)
        # Where no message is as young, the answer is -1 for "the end"; newer messages may have come meanwhile.
        return [tp if tp.offset >= 0 else self._at_listed_end(tp.partition) for tp in found]

    def _at_listed_end(self, partition: int) -> TopicPartition:
        return TopicPartition(self.topic, partition, self.range_of(partition)[1])

    def _read_to_end(
        self, starts: Sequence[TopicPartition], ends: Mapping[int, int] | None = None
    ) -> Iterator[Message]:
        """Read each partition to its end, or to the given offset."""
        left = {tp.partition for tp in starts}
        self._consumer.assign(list(starts))
        self._consumer.resume(list(starts))  # an earlier read may have paused them
        heard_s = time.monotonic()
        wrong: KafkaError | None = None
        try:
            while left:
                heard = False
                for message in self._consumer.consume(AT_ONCE, POLL_S):
                    error = message.error()
                    if error is None:
                        heard = True
                        end = None if ends is None else ends[_partition(message)]
                        if end is None or _offset(message) < end:
                            yield message
                        if end is not None and _offset(message) >= end - 1:
                            self._leave(left, _partition(message))
                    elif error.code() == END_OF_PARTITION:
                        heard = True
                        left.discard(_partition(message))
                    elif error.fatal() or error.code() in FOR_GOOD:
                        raise KafkaException(error)
                    else:
                        wrong = error
                if heard:
                    heard_s = time.monotonic()
                elif time.monotonic() - heard_s > SILENCE_S:
                    silence = KafkaError(TIMED_OUT, f"nothing from {self.topic} for {SILENCE_S:.0f} s")
                    raise KafkaException(wrong or silence)
        finally:
            self._consumer.unassign()

    def _leave(self, left: set[int], partition: int) -> None:
        """Stop reading a partition."""
        if partition in left:
            left.discard(partition)
            self._consumer.pause([TopicPartition(self.topic, partition)])

    def _is_record(self, message: Message, report: Callable[[str], None]) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.fatal() or error.code() in FOR_GOOD:
            raise KafkaException(error)
        if error.code() != END_OF_PARTITION:
            report(f"Kafka: waiting: {error.str()}")
        return False


def _partition(message: Message) -> int:
    number = message.partition()
    assert number is not None
    return number


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None
    return offset
