"""The acknowledged producer against a real Kafka: all acknowledged, one too large, Kafka away, a fenced client."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from funnelwatch.producers.kafka import acked
from funnelwatch.producers.kafka.acked import AckedProducer, Message
from funnelwatch.producers.kafka.topic_reader import TopicReader
from funnelwatch.producers.kafka.topics import ensure_topics
from tests.stack import not_on_tansu

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings


@pytest.fixture
def topic(settings: Settings) -> Settings:
    """Settings whose topics exist, with one partition each."""
    one = settings.model_copy(update={"topic_partitions": 1})
    ensure_topics(one)
    return one


def values(settings: Settings, topic: str) -> list[bytes | None]:
    """What the topic holds."""
    with TopicReader(settings, topic) as reader:
        return [message.value() for message in reader.to_end()]


def test_a_published_message_is_in_the_topic_when_the_call_returns(topic: Settings) -> None:
    """In order, with key and headers, also more messages than the buffer holds."""
    producer = AckedProducer(topic, "test", buffer_messages=10)
    producer.publish(Message(topic.events_topic, b"k", b"%d" % number, [("n", str(number))]) for number in range(50))
    assert values(topic, topic.events_topic) == [b"%d" % number for number in range(50)]


@not_on_tansu("takes records of any size")
def test_each_message_has_an_outcome_of_its_own(topic: Settings) -> None:
    """The one that the client rejects as too large is named, and the others are in the topic."""
    producer = AckedProducer(topic, "test", properties={"message.max.bytes": 10_000})
    messages = [Message(topic.events_topic, None, value) for value in (b"a", b"x" * 20_000, b"b")]
    outcomes = producer.outcomes(messages)
    assert [error and error.code() for error in outcomes] == [None, KafkaError.MSG_SIZE_TOO_LARGE, None]
    with pytest.raises(KafkaException):
        producer.publish(messages)
    assert values(topic, topic.events_topic) == [b"a", b"b", b"a", b"b"]


def test_a_kafka_that_is_away_fails_a_call_within_the_delivery_timeout(settings: Settings) -> None:
    """No message counts as acknowledged, and the call does not wait for ever."""
    nowhere = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9", "kafka_config": {}})
    producer = AckedProducer(nowhere, "test", timeout_s=1)
    began = time.monotonic()
    with pytest.raises(KafkaException):
        producer.publish([Message("topic", b"k", b"v")])
    assert time.monotonic() - began < 1 + acked.GRACE_S + 1


def test_a_client_that_is_broken_for_good_is_replaced(topic: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that finds out fails, and the next one succeeds."""

    class Fenced:
        """Stands for a librdkafka producer that a broker has fenced."""

        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def produce(self, *_: Any, **__: Any) -> None:
            """Reject a message as librdkafka does after a fatal error."""
            raise KafkaException(KafkaError(KafkaError._FATAL, "fenced", fatal=True))

        def flush(self, _timeout: float) -> int:
            """Nothing is open."""
            return 0

        def purge(self) -> None:
            """Nothing is open."""

    with monkeypatch.context() as patched:
        patched.setattr(acked, "Producer", Fenced)
        producer = AckedProducer(topic, "test")
    with pytest.raises(KafkaException, match="fenced"):
        producer.publish([Message(topic.events_topic, b"k", b"1")])
    producer.publish([Message(topic.events_topic, b"k", b"1")])
    assert values(topic, topic.events_topic) == [b"1"]
