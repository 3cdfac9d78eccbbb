"""FunnelProducer and the bulk path on a real Kafka."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from funnelwatch import FunnelEvent, FunnelProducer, Phase
from funnelwatch.producers.files.bulk import produce_events
from funnelwatch.producers.kafka.topics import KafkaUnreachable, ensure_topics
from funnelwatch.producers.simulate.simulator import Simulator
from funnelwatch.schemas.clock import wall_clock_ms
from tests.fake_registry import fake_registry
from tests.integration.topic import read_events, read_messages
from tests.stack import wait_until
from tests.worker import environment

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings
    from tests.stack import Servers

SHOWN: dict[str, Any] = {"sign_up_session_id": "s-1", "step": "A", "phase": "IMPRESSION"}


def test_topics_are_made_once_and_the_alerts_are_compacted(settings: Settings, stack: Servers) -> None:
    """A second call makes nothing; partitions are as the settings say."""
    topics = [
        settings.events_topic,
        settings.metrics_topic,
        settings.windows_topic,
        settings.alerts_topic,
        settings.dead_letters_topic,
    ]
    assert ensure_topics(settings) == topics
    assert ensure_topics(settings) == []
    admin = AdminClient(settings.kafka())
    there = admin.list_topics(timeout=60).topics
    assert [len(there[topic].partitions) for topic in topics] == [settings.topic_partitions] * 5
    if not stack.tansu:
        resource = ConfigResource(ResourceType.TOPIC, settings.alerts_topic)
        config = admin.describe_configs([resource])[resource].result(60)
        assert config["cleanup.policy"].value == "compact"


def test_a_kafka_that_is_not_there_is_named_with_what_to_do(settings: Settings) -> None:
    """Within the timeout."""
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9"})
    with pytest.raises(KafkaUnreachable, match=r"127\.0\.0\.1:9 does not answer within 1 s .*funnelwatch up"):
        ensure_topics(away, timeout_s=1.0)


def test_events_arrive_keyed_by_session_in_order_with_kafkas_own_time(settings: Settings) -> None:
    """All of a session are on one partition; an old ts does not make an old message, which Kafka would delete."""
    ensure_topics(settings)
    before = wall_clock_ms()
    with FunnelProducer(settings, app_version="5.2.0") as producer:
        for number in range(200):
            producer.emit(SHOWN, sign_up_session_id=f"s-{number % 7}", ts=number)
        producer.emit(FunnelEvent(sign_up_session_id="s-0", step="B", phase=Phase.IMPRESSION, ts=200))
    assert producer.stats().delivered == 201
    messages = read_messages(settings, settings.events_topic, 201)
    assert len(messages) == 201
    partitions = {(message.key(), message.partition()) for message in messages}
    assert len(partitions) == 7
    assert all(m.timestamp()[0] == TIMESTAMP_CREATE_TIME and m.timestamp()[1] >= before for m in messages)
    events = read_events(settings, 201)
    for session in range(7):
        times = [event["ts"] for event in events if event["sign_up_session_id"] == f"s-{session}"]
        assert times == sorted(times)
    assert Counter(event["app_version"] for event in events) == {"5.2.0": 200, "": 1}


def test_impression_and_verification_of_two_requests_belong_together(settings: Settings) -> None:
    """The duration is the time between; a clock that went back makes it 0, not negative."""
    ensure_topics(settings)
    with FunnelProducer(settings) as producer:
        shown_at = producer.impression("s-1", "A", os="iOS")
        producer.verification("s-1", "A", "FAILURE", shown_at=shown_at, ts=shown_at + 700)
        producer.verification("s-1", "A", "SUCCESS", shown_at=shown_at, ts=shown_at - 5)
        producer.verification("s-1", "A", "SUCCESS")
    events = read_events(settings, 4)
    assert [event["duration_ms"] for event in events] == [None, 700, 0, None]


def test_events_are_flushed_when_the_interpreter_exits(settings: Settings) -> None:
    """Nobody has closed the producer."""
    ensure_topics(settings)
    program = (
        "from funnelwatch import FunnelProducer\n"
        "producer = FunnelProducer()\n"
        "for n in range(1000): producer.impression(f's-{n}', 'A')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120, env=environment(settings))
    assert len(read_events(settings, 1000)) == 1000


def test_a_forked_child_has_a_connection_of_its_own(settings: Settings) -> None:
    """The parent has emitted already; both go on, each event arrives once, and both exit."""
    ensure_topics(settings)
    producer = FunnelProducer(settings)
    producer.emit(SHOWN, sign_up_session_id="parent")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forking with threads: so we do
        child = os.fork()
    if child == 0:
        producer.emit(SHOWN, sign_up_session_id="child")
        stats = (producer.flush(90), producer.stats().delivered)
        os._exit(0 if stats == (0, 1) else 1)
    producer.emit(SHOWN, sign_up_session_id="parent")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    producer.close()
    sessions = Counter(event["sign_up_session_id"] for event in read_events(settings, 3))
    assert sessions == {"parent": 2, "child": 1}


def test_a_producer_made_before_a_fork_lets_the_child_exit_normally(settings: Settings) -> None:
    """Prefork servers end their workers by a plain exit, which frees everything."""
    ensure_topics(settings)
    program = (
        "import os, sys\n"
        "from funnelwatch import FunnelProducer\n"
        "producer = FunnelProducer()\n"
        "producer.impression('parent', 'A')\n"
        "producer.flush()\n"
        "child = os.fork()\n"
        "producer.impression('child' if child == 0 else 'parent', 'A')\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    subprocess.run(command, check=True, timeout=120, env=environment(settings))
    assert len(read_events(settings, 3)) == 3


def framing(producer: FunnelProducer) -> bytes:
    """The first byte of the next event."""
    assert producer._connection
    return producer._connection.encoder({**SHOWN, "event_id": "e", "ts": 1})[:1]


def test_with_a_registry_events_take_confluent_framing_once_it_answers(settings: Settings) -> None:
    """While it is away they take the other framing: nobody waits for a registry."""
    ensure_topics(settings)
    with fake_registry() as registry:
        registry.status = 503
        with FunnelProducer(settings.model_copy(update={"schema_registry_url": registry.url})) as producer:
            producer.emit(SHOWN)
            producer.flush()
            wait_until(lambda: registry.asked, "the first attempt")
            registry.status = 200
            wait_until(lambda: 7 in registry.schemas, "the next attempt")
            # The new framing is in use a moment after the answer.
            wait_until(lambda: producer.emit(SHOWN) and framing(producer) == b"\x00", "the new framing")
            producer.emit(SHOWN)
    emitted = producer.stats().emitted
    first = Counter(m.value()[:1] for m in read_messages(settings, settings.events_topic, emitted))
    assert first[b"\xc3"] >= 1
    assert first[b"\x00"] >= 1


def test_bulk_events_all_arrive_and_progress_is_told(settings: Settings) -> None:
    """The simulator's events, in their number and content."""
    ensure_topics(settings)
    events = list(Simulator(rate=300).events(1_767_571_200_000, 1_767_571_200_000 + 600_000))
    told: list[int] = []
    outcome = produce_events(settings, events, told.append)
    assert (outcome.produced, outcome.failed, outcome.error) == (len(events), 0, None)
    assert told[-1] == len(events)
    arrived = read_events(settings, len(events))
    assert sorted(arrived, key=lambda e: e["event_id"]) == sorted(events, key=lambda e: e["event_id"])


def test_bulk_events_that_do_not_fit_end_the_run_after_those_before_them(settings: Settings) -> None:
    """The error names the field; what was good is on Kafka."""
    ensure_topics(settings)
    good = {"event_id": "e", "sign_up_session_id": "s", "step": "A", "phase": "IMPRESSION", "ts": 1}
    with pytest.raises(ValueError, match=r"^ts: 'x'"):
        produce_events(settings, [good, good, {**good, "ts": "x"}, good])
    assert len(read_events(settings, 2)) == 2


def test_bulk_events_that_kafka_rejects_are_failures(settings: Settings) -> None:
    """A topic that does not exist ends the run with a count and the reason."""
    nowhere = settings.model_copy(
        update={
            "kafka_config": {
                **settings.kafka_config,
                "allow.auto.create.topics": "false",
                "delivery.timeout.ms": "2000",
            }
        }
    )
    good = {"event_id": "e", "sign_up_session_id": "s", "step": "A", "phase": "IMPRESSION", "ts": 1}
    outcome = produce_events(nowhere, [good] * 3)
    assert (outcome.produced, outcome.failed) == (0, 3)
    assert outcome.error
