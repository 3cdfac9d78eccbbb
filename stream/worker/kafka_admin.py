"""A worker's questions about Kafka itself: topic ids, partitions, whether its clients still get answers."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from funnelwatch.stream.intake.consumer import LONGEST_FETCH_WAIT_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.stream.worker.lifecycle import Component

METADATA_TIMEOUT_S = 10.0

PARTITIONS_KEPT_S = 10.0
"""The closer notices a partition that is added to a topic within this, s; librdkafka within 30 s."""

ANSWER_TIMEOUT_S = 2 * LONGEST_FETCH_WAIT_MS / 1000
"""A broker answers the requests of a connection in turn: this one may stand behind a fetch that waits for records."""

T = TypeVar("T")


class Remembered(Generic[T]):
    """Calls a function at most once in a while, and returns its last result meanwhile. Thread-safe.

    Args:
        ask: the function. An error of it is raised, and the next call asks again.
        keep_s: for how long a result is returned, s.
        monotonic: the clock, s.
    """

    def __init__(self, ask: Callable[[], T], keep_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._keep_s = keep_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._result: T | None = None

    def __call__(self) -> T:
        """The result, at most ``keep_s`` old."""
        with self._lock:
            result = self._result
            if result is None or self._monotonic() >= self._until:
                result = self._result = self._ask()
                self._until = self._monotonic() + self._keep_s
            return result


class KafkaAdmin:
    """Kafka's administration, as far as a worker needs it. Thread-safe.

    Attributes:
        client: librdkafka's client.
        partitions: gives the number of partitions of the events topic; several threads ask several times a second.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.client = AdminClient(settings.kafka(**{"client.id": "funnelwatch-admin", "log_level": 0}))
        self.partitions = Remembered(self._count_partitions, PARTITIONS_KEPT_S)

    def topic_id(self, topic: str) -> str:
        """Kafka's id of a topic, now: it tells the topic from an earlier one of its name.

        Raises:
            KafkaException: Kafka does not answer.
        """
        described = self.client.describe_topics(TopicCollection([topic]), request_timeout=METADATA_TIMEOUT_S)
        return str(described[topic].result().topic_id)

    def _count_partitions(self) -> int:
        topic = self._settings.events_topic
        return len(self.client.list_topics(topic, timeout=METADATA_TIMEOUT_S).topics[topic].partitions)


def silent_clients(components: Iterable[Component[Any]]) -> list[str]:
    """The purposes of those running Kafka clients that get no answer now. From any thread."""
    silent = []
    for component in components:
        client = component.if_running
        if not component.kafka_client or client is None:
            continue
        try:
            client.ask_kafka(ANSWER_TIMEOUT_S)
        except KafkaException:
            silent.append(component.kafka_client)
        except RuntimeError:  # it is closed: the worker is stopping
            continue
    return silent


def kafka_answers(settings: Settings) -> bool:
    """Whether a fresh client gets an answer from Kafka."""
    client = AdminClient(settings.kafka(**{"client.id": "funnelwatch-look", "log_level": 0}))
    try:
        return bool(client.list_topics(settings.events_topic, timeout=ANSWER_TIMEOUT_S).brokers)
    except KafkaException:
        return False
