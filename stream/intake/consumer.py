"""The settings of the intake's librdkafka consumers, and the errors that they recover from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import TopicPartition

    from funnelwatch.schemas.settings import Settings

LONGEST_FETCH_WAIT_MS = 3_000
"""Kafka holds a fetch for records that do not come at most this long, ms."""

OUT_OF_RANGE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001 - they have no other name

WAITED_OUT = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    # An outage of the database while partitions were being started; the consumer joins again by itself.
    KafkaError._MAX_POLL_EXCEEDED,  # noqa: SLF001
)
"""Errors that librdkafka recovers from, though it does not call them retriable."""


def consumer_properties(
    settings: Settings, role: str, on_commit: Callable[[KafkaError | None, list[TopicPartition]], None]
) -> dict[str, Any]:
    """The properties of the consumer of a role, "events" or "metrics"; each role has a group of its own."""
    session_ms = int(settings.session_timeout_s * 1000)
    return settings.kafka(
        "consumer",
        **{
            "group.id": f"{settings.consumer_group}-{role}",
            "client.id": "funnelwatch-intake",
            "partition.assignment.strategy": "cooperative-sticky",
            "enable.auto.commit": False,
            "on_commit": on_commit,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            # Never guess: the progress says where a partition starts, and an offset that the log does not have is an
            # error that a person must look at.
            "auto.offset.reset": "error",
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": max(100, session_ms // 5),
            # Kafka answers as soon as there is a record; until then one request waits for so long. A partition that is
            # assigned meanwhile waits with it, and counters are in less of a hurry than events.
            "fetch.wait.max.ms": 1_000 if role == "events" else LONGEST_FETCH_WAIT_MS,
            # By default a full queue makes the fetcher rest for a second; measured, that costs a factor of 5.
            "fetch.queue.backoff.ms": 2,
            "queued.max.messages.kbytes": 65_536,
            # By default 100,000 a partition: no event comes sooner for it, and each has memory of its own.
            "queued.min.messages": 20_000,
            # A topic that is made while we wait is noticed soon.
            "topic.metadata.refresh.interval.ms": 30_000,
        },
    )
