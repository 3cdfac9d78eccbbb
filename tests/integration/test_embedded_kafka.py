"""Apache Kafka of the embedded stack: its jars, its data, its settings."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.cimpl import NewTopic

from funnelwatch.deploy.embedded import apache_kafka, kafka_jars
from funnelwatch.deploy.embedded.errors import PortTakenError, StackError, UnusableError
from funnelwatch.deploy.embedded.java import find_java
from funnelwatch.deploy.embedded.kafka_client import admin, brokers
from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.deploy.embedded.server import Context, failure
from tests.stack import apache_is_wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from confluent_kafka import Message

    from funnelwatch.deploy.embedded.stack import Stack
    from funnelwatch.deploy.embedded.state import StackState

pytestmark = pytest.mark.skipif(
    not apache_is_wanted(), reason="NOT TESTED: Apache Kafka, because this run is to use another (FUNNELWATCH_TEST_…)"
)
TEN_YEARS_MS = 10 * 365 * 86_400_000


def quiet(line: str) -> None:
    """Progress is not of interest here."""


def make_context(tmp_path: Path, environ: Mapping[str, str], told: list[str] | None = None) -> Context:
    """To fetch Kafka with, into a cache of the test's own."""
    report = told.append if told is not None else quiet
    return Context(tmp_path / "data", {**environ, "XDG_CACHE_HOME": str(tmp_path)}, report, threading.Event())


def test_a_damaged_jar_is_noticed_and_fetched_again(tmp_path: Path) -> None:
    """One changed byte is enough; without Maven the damaged jar is named and Kafka is not used."""
    java = find_java(os.environ)
    folder = kafka_jars.jars(make_context(tmp_path, os.environ), java)
    assert kafka_jars.damage(folder) is None
    jar = folder / "kafka-clients-4.1.0.jar"
    content = bytearray(jar.read_bytes())
    content[1000] ^= 1
    jar.write_bytes(content)
    with pytest.raises(UnusableError, match=r"Maven \(mvn\) is not on PATH.*kafka-clients-4\.1\.0\.jar is damaged"):
        kafka_jars.jars(make_context(tmp_path, {"PATH": ""}), java)
    told: list[str] = []
    assert kafka_jars.jars(make_context(tmp_path, os.environ, told), java) == folder
    assert any("damaged; fetching it again" in line for line in told)
    assert kafka_jars.damage(folder) is None
    assert not [left for left in folder.parent.iterdir() if left != folder]


def test_with_the_jars_in_the_cache_maven_is_not_needed(tmp_path: Path) -> None:
    """A second clone, or a machine that has gone offline, starts from the cache."""
    java = find_java(os.environ)
    folder = kafka_jars.jars(make_context(tmp_path, os.environ), java)
    assert kafka_jars.jars(make_context(tmp_path, {"PATH": ""}), java) == folder


def test_a_maven_that_fails_is_quoted_and_auto_takes_tansu(own_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """As when offline: Maven's own error is the reason; nothing half-fetched stays."""
    (tmp_path / "mvn").write_text("#!/bin/sh\necho '[ERROR] the network is unreachable'; exit 1\n")
    (tmp_path / "mvn").chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    kafka = own_stack("auto", environ).up(quiet).services["kafka"]
    assert kafka.program.startswith("tansu")
    assert "Maven could not fetch Apache Kafka ([ERROR] the network is unreachable" in kafka.why
    assert list((tmp_path / "cache" / "funnelwatch").iterdir()) == []


def test_topics_survive_and_old_events_are_kept(own_stack: Callable[..., Stack]) -> None:
    """Ten years old, after a restart and with other users; without Java nobody is given empty topics instead."""
    stack = own_stack("apache")
    before = client_config(stack.up(quiet))
    produce_old_event(before)
    stack.down()
    # As data of an earlier version, which know no users.
    (stack.data_dir / "kafka" / "users").unlink()
    (stack.data_dir / "passwords" / "kafka").unlink()
    config = client_config(stack.up(quiet))
    assert brokers({**before, "bootstrap.servers": config["bootstrap.servers"]}, 5.0) == 0
    consumer = Consumer({**config, "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition("old", 0, 0)])
    message = consumer.poll(90)
    consumer.close()
    assert message is not None
    assert (message.error(), message.value()) == (None, b"old")
    stack.down()
    with pytest.raises(StackError, match=r"topics in .* are Apache Kafka's.*Java is not on PATH.*--kafka tansu"):
        own_stack("auto", {"PATH": ""}).up(quiet)


def client_config(state: StackState) -> dict[str, str]:
    """What a client needs to connect to the stack's Kafka."""
    kafka = state.services["kafka"]
    return {"bootstrap.servers": kafka.url, **kafka.config}


def produce_old_event(config: dict[str, str]) -> None:
    """One event with a timestamp of ten years ago."""
    client = admin(config)
    for future in client.create_topics([NewTopic("old", 1, 1)]).values():
        future.result(60)
    errors: list[object] = []

    def delivered(error: object, message: Message) -> None:
        errors.append(error)

    producer = Producer({**config, "acks": "all"})
    producer.produce("old", b"old", timestamp=1_795_363_661_000 - TEN_YEARS_MS, on_delivery=delivered)
    assert producer.flush(60) == 0
    assert errors == [None]


def test_java_gets_the_options_of_kafkas_own_variable(tmp_path: Path) -> None:
    """As Kafka's own scripts read it; a smaller heap or another collector needs no setting of ours."""
    context = make_context(tmp_path, {apache_kafka.JVM_OPTIONS: "-Xmx256m '-Dname=two words'"})
    server = apache_kafka.ApacheKafka(context, tmp_path / "java", tmp_path, "a test")
    server.folder.mkdir(parents=True)
    args = server.command(free_port()).args
    assert args.index("-Xmx1G") < args.index("-Xmx256m"), "Java takes the last of two values"
    assert "-Dname=two words" in args


def test_what_kafka_says_about_a_taken_port_is_understood(tmp_path: Path) -> None:
    """Its own words for it lead to another port instead of a failure."""
    context = make_context(tmp_path, os.environ)
    server = apache_kafka.ApacheKafka(context, tmp_path / "java", tmp_path, "a test")
    server.log.parent.mkdir(parents=True)
    server.log.write_text(f"KafkaException: Socket server failed to bind to {HOST}:9092: Address already in use.\n")
    assert isinstance(failure(server, 0, "ended by itself", 9092), PortTakenError)
