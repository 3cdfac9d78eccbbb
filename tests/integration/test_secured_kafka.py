"""A Kafka that denies by default, with TLS and logins: every client of funnelwatch connects, and does its work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AclOperation, ResourceType

from funnelwatch.cli.doctor_services import check_kafka
from funnelwatch.cli.errors import clear_errors
from funnelwatch.deploy.embedded.kafka_client import admin
from funnelwatch.producers.client.producer import FunnelProducer
from funnelwatch.producers.kafka.rejection import ADVICE
from funnelwatch.producers.kafka.topic_reader import TopicReader
from funnelwatch.producers.kafka.topics import KafkaUnreachable, ensure_topics
from tests.command import run
from tests.secure_kafka import ADMIN, APP, READER, WORKER, SecureKafka, secure_kafka
from tests.stack import apache_is_wanted, wait_until
from tests.traffic import closed_windows, done
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings

pytestmark = pytest.mark.skipif(
    not apache_is_wanted(), reason="NOT TESTED: a secured Kafka, which needs Java 17 and Maven"
)

PRODUCE = (AclOperation.WRITE, AclOperation.DESCRIBE)
READ = (AclOperation.READ, AclOperation.DESCRIBE)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """One for the tests of this file."""
    with secure_kafka(tmp_path_factory.mktemp("secured")) as running:
        yield running


def connected(settings: Settings, servers: str, config: dict[str, str]) -> Settings:
    """The same settings for that Kafka; windows close soon."""
    return settings.model_copy(
        update={
            "kafka_bootstrap_servers": servers,
            "kafka_config": config,
            "window_s": 1,
            "allowed_disorder_s": 1.0,
            "idle_timeout_s": 1.0,
            "watchdog_every_s": 1.0,
        }
    )


def ways(kafka: SecureKafka, user: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Every way to connect: bootstrap servers and properties."""
    certificate, key = (kafka.folder / f"{WORKER}.{suffix}" for suffix in ("pem", "key"))
    as_text = {
        "ssl.ca.pem": (kafka.folder / "ca.pem").read_text(),
        "ssl.certificate.pem": certificate.read_text(),
        "ssl.key.pem": key.read_text(),
        "ssl.key.password": kafka.certificate(WORKER)["ssl.key.password"],
    }
    found = {
        f"{mechanism} {'over TLS' if tls else 'in plaintext'}": (
            kafka.sasl_ssl if tls else kafka.sasl_plaintext,
            kafka.login(user, mechanism, tls=tls),
        )
        for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
        for tls in (True, False)
    }
    return found | {
        "a certificate": (kafka.mtls, kafka.certificate(WORKER)),
        "a certificate as text": (kafka.mtls, {"security.protocol": "ssl", **as_text}),
        "an unverified broker": (
            kafka.sasl_ssl,
            {
                **kafka.login(user),
                "ssl.ca.location": "probe",
                "enable.ssl.certificate.verification": "false",
            },
        ),
    }


def test_the_doctor_connects_in_every_way_as_a_worker_does(secured: SecureKafka, settings: Settings) -> None:
    """Through librdkafka and through Faust's client."""
    for way, (servers, config) in ways(secured, WORKER).items():
        findings = list(check_kafka(connected(settings, servers, config)))
        assert [(one.name, one.level) for one in findings[:2]] == [("kafka", "ok"), ("kafka (worker)", "ok")], way


def test_the_doctor_fails_where_a_worker_cannot_connect(secured: SecureKafka, settings: Settings) -> None:
    """Also where librdkafka can: Faust reads no system certificates of librdkafka's, and knows no key store."""
    servers, config = ways(secured, WORKER)["SCRAM-SHA-512 over TLS"]
    for change in ({"sasl.password": "wrong"}, {"ssl.ca.location": "probe"}, {"security.protocol": "sasl_plaintext"}):
        findings = list(check_kafka(connected(settings, servers, {**config, **change})))
        assert [one.level for one in findings if one.name.startswith("kafka")] == ["FAILED"], change
    only_librdkafka = {**config, "ssl.curves.list": "P-256:P-384:X25519"}
    findings = list(check_kafka(connected(settings, servers, only_librdkafka)))
    assert [(one.name, one.level) for one in findings[:2]] == [("kafka", "ok"), ("kafka (worker)", "FAILED")]
    assert "ssl.curves.list" in findings[1].message


def test_a_rejected_login_is_not_called_a_kafka_that_is_away(secured: SecureKafka, settings: Settings) -> None:
    """By the doctor, by a command that reads and by one that writes: nothing is to be started, a password is wrong."""
    servers, config = ways(secured, WORKER)["SCRAM-SHA-512 over TLS"]
    wrong = connected(settings, servers, {**config, "sasl.password": "Wr0ng"})
    (finding,) = [one for one in check_kafka(wrong) if one.level == "FAILED"]
    assert "rejects the connection: SASL authentication error: " in finding.message
    assert finding.advice == f"{ADVICE}."
    rejected = "rejects the connection: SASL authentication error"
    with pytest.raises(click.ClickException, match=rejected) as told, clear_errors(wrong):
        admin(wrong.kafka()).list_topics(timeout=3)
    assert told.value.message.endswith(ADVICE)
    with pytest.raises(KafkaUnreachable, match=rejected) as unreachable:
        ensure_topics(wrong, timeout_s=3)
    assert "Wr0ng" not in f"{finding} {told.value.message} {unreachable.value}"


@pytest.mark.parametrize("way", ["SCRAM-SHA-512 over TLS", "a certificate"])
def test_a_worker_counts_closes_and_alerts(secured: SecureKafka, settings: Settings, way: str) -> None:
    """With no more rights than it needs; the app that produces may write, and the reader of alerts may read."""
    servers, config = ways(secured, WORKER)[way]
    mine = connected(settings, servers, config)
    prefix = mine.consumer_group
    admin = connected(settings, secured.sasl_ssl, secured.login(ADMIN))
    ensure_topics(admin)
    secured.allow(WORKER, ResourceType.TOPIC, prefix, (*READ, AclOperation.WRITE))
    secured.allow(WORKER, ResourceType.GROUP, prefix, READ)
    secured.allow(APP, ResourceType.TOPIC, mine.events_topic, PRODUCE)
    secured.allow(READER, ResourceType.TOPIC, mine.alerts_topic, READ)
    secured.allow(READER, ResourceType.GROUP, prefix, READ)

    app = connected(settings, secured.sasl_ssl, secured.login(APP, "SCRAM-SHA-256"))
    with worker(mine) as one, FunnelProducer(app) as producer:
        one.wait_assigned()
        for number in range(10):
            producer.impression(f"session {number}", "INPUT_NAME", os="iOS", app_version="1.0")
        assert producer.flush(60) == 0
        wait_until(lambda: done(mine, 10), "the events are counted")
        wait_until(lambda: closed_windows(admin), "windows are closed")
        wait_until(lambda: evaluated(admin) > 0, "Faust's consumer has evaluated a closed window")
        reader = connected(settings, secured.sasl_plaintext, secured.login(READER, "PLAIN", tls=False))
        wait_until(lambda: messages(reader, reader.alerts_topic), "the detector publishes its heartbeat")
        assert one.running
        assert "GROUP_AUTHORIZATION" not in one.text()

    intruder = connected(settings, secured.sasl_ssl, secured.login(APP))
    rejected = run(intruder, "alerts", "--follow")
    assert rejected.exit_code == 1
    assert "authorization failed" in rejected.output


def messages(settings: Settings, topic: str) -> int:
    """How many messages a topic has."""
    with TopicReader(settings, topic) as reader:
        return sum(1 for _ in reader.to_end())


def evaluated(settings: Settings) -> int:
    """How many closed windows the group of the workers has committed."""
    consumer = Consumer(settings.kafka("consumer", **{"group.id": settings.consumer_group}))
    try:
        wanted = [TopicPartition(settings.windows_topic, number) for number in range(settings.topic_partitions)]
        return sum(max(0, one.offset) for one in consumer.committed(wanted, timeout=60))
    finally:
        consumer.close()
        time.sleep(0.2)
