"""Creates missing topics."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from funnelwatch.producers.kafka.rejection import ADVICE, kafka_rejection
from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.redaction import shown_brokers

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

logger = logging.getLogger("funnelwatch.topics")

COMPACTED = {"cleanup.policy": "compact"}
EXISTS = KafkaError.TOPIC_ALREADY_EXISTS
POLL_S = 0.05


class KafkaUnreachable(FunnelwatchError):  # noqa: N818 - the message continues the name
    """Kafka does not answer, or rejects a request; the message names the address and the remedy."""


def ensure_topics(settings: Settings, timeout_s: float = 15.0) -> list[str]:
    """Create the missing topics among events, metrics, windows, alerts (compacted) and dead letters.

    Safe to call at any time and from several processes at once. On a broker without compaction it creates the alerts
    topic without it, and logs that.

    Args:
        settings: where Kafka is, the names, the numbers of partitions and replicas.
        timeout_s: time limit for all topics, s.

    Returns:
        The names of the created topics.

    Raises:
        KafkaUnreachable: no broker answers in time, or one refuses to create a topic.
    """
    end = time.monotonic() + timeout_s
    admin = AdminClient(settings.kafka(**{"socket.timeout.ms": int(timeout_s * 1000)}), logger=logger)
    wanted = {
        name: NewTopic(name, settings.topic_partitions, settings.topic_replication, config=config)
        for name, config in (
            (settings.events_topic, {}),
            (settings.metrics_topic, {}),
            (settings.windows_topic, {}),
            (settings.alerts_topic, COMPACTED),
            (settings.dead_letters_topic, {}),
        )
    }
    there = _there(admin, settings, timeout_s)
    made = [name for name, topic in wanted.items() if name not in there and _make(admin, topic, settings, end)]
    while wanted.keys() - _there(admin, settings, max(0.1, end - time.monotonic())):
        if time.monotonic() > end:
            raise KafkaUnreachable(f"Kafka at {_where(settings)} created topics but does not list them")
        time.sleep(POLL_S)
    return made


def _there(admin: AdminClient, settings: Settings, timeout_s: float) -> set[str]:
    """The topics that have partitions."""
    try:
        topics = admin.list_topics(timeout=timeout_s).topics
    except KafkaException as error:
        if rejection := kafka_rejection(settings.kafka()):
            raise KafkaUnreachable(
                f"Kafka at {_where(settings)} rejects the connection: {rejection}. {ADVICE}"
            ) from error
        raise KafkaUnreachable(
            f"Kafka at {_where(settings)} does not answer within {timeout_s:.0f} s "
            f"({error.args[0].str()}); start it with 'funnelwatch up', or set FUNNELWATCH_KAFKA_BOOTSTRAP_SERVERS"
        ) from error
    return {name for name, topic in topics.items() if topic.error is None and topic.partitions}


def _make(admin: AdminClient, topic: NewTopic, settings: Settings, end: float) -> bool:
    """Whether this call created the topic."""
    left_s = max(0.1, end - time.monotonic())
    try:
        admin.create_topics([topic], operation_timeout=left_s, request_timeout=left_s)[topic.topic].result(left_s)
    except KafkaException as error:
        code = error.args[0].code()
        if code == EXISTS:
            return False
        if topic.config and code in (KafkaError.INVALID_CONFIG, KafkaError.INVALID_REQUEST):
            logger.warning("Kafka has no compacted topics (%s); %s is kept by time", error.args[0].str(), topic.topic)
            plain = NewTopic(topic.topic, settings.topic_partitions, settings.topic_replication)
            return _make(admin, plain, settings, end)
        raise KafkaUnreachable(
            f"Kafka at {_where(settings)} does not create the topic {topic.topic}: {error.args[0].str()}"
        ) from error
    except TimeoutError as error:
        raise KafkaUnreachable(f"Kafka at {_where(settings)} creates no topic {topic.topic} in time") from error
    return True


def _where(settings: Settings) -> str:
    return shown_brokers(settings.kafka_bootstrap_servers)
