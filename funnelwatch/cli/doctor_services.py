"""What ``funnelwatch doctor`` asks Kafka, the schema registry, the database and Redis."""

from __future__ import annotations

import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from deploy.embedded.kafka_client import admin
from funnelwatch.cli.faults import without_password
from schemas.events import now_ms
from sinks.redis.client import explain, server_of
from sinks.redis.hot import HotCopy, Outage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.settings import Settings

TIMEOUT_S = 5.0
START = "Start it (`funnelwatch up` starts one here), or set {variable} to where it is."
NOT_YET = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}
"""What a cluster answers about groups in its first moments."""
OLDEST_DATABASE = 150_000


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: Literal["ok", "warning", "FAILED"]
    message: str
    advice: str = ""


def check_kafka(settings: Settings) -> Iterator[Finding]:
    """The brokers answer, the topics are there, and how far the workers are behind."""
    client = admin(settings.kafka())
    try:
        cluster = client.list_topics(timeout=TIMEOUT_S)
    except KafkaException as error:
        message = f"no broker answers at {settings.kafka_bootstrap_servers}: {error.args[0].str()}"
        advice = START.format(variable="FUNNELWATCH_KAFKA_BOOTSTRAP_SERVERS")
        yield Finding("kafka", "FAILED", message, advice)
        return
    yield Finding("kafka", "ok", f"{len(cluster.brokers)} broker(s) at {settings.kafka_bootstrap_servers}")
    for name in (
        settings.events_topic,
        settings.metrics_topic,
        settings.windows_topic,
        settings.alerts_topic,
        settings.dead_letters_topic,
    ):
        if name in cluster.topics:
            yield Finding("topic", "ok", f"{name}: {len(cluster.topics[name].partitions)} partition(s)")
        else:
            advice = "A worker makes it when it starts: `funnelwatch worker`."
            yield Finding("topic", "warning", f"{name} does not exist", advice)
    events = cluster.topics.get(settings.events_topic)
    if events is not None:
        yield _lag(settings, [TopicPartition(settings.events_topic, number) for number in events.partitions])


def _lag(settings: Settings, partitions: list[TopicPartition]) -> Finding:
    """How far the committed offsets are from the ends.

    A consumer is asked, which never joins the group: the admin client's calls for this were seen to crash the process
    (confluent-kafka 2.16) while the cluster sets up its group coordinator.
    """
    group = settings.consumer_group
    consumer = Consumer({"log_level": 0, **settings.kafka(**{"group.id": group, "enable.auto.commit": False})})
    try:
        lag = 0
        unread = True
        for one in _committed(consumer, partitions):
            first, end = consumer.get_watermark_offsets(one, timeout=TIMEOUT_S)
            unread = unread and one.offset < 0
            lag += max(0, end - (one.offset if one.offset >= 0 else first))
    except KafkaException as error:
        advice = "See that this user may read the group and the topic."
        return Finding("consumer group", "warning", f"{group}: its lag cannot be told: {error.args[0].str()}", advice)
    finally:
        consumer.close()
    if unread:
        return Finding("consumer group", "ok", f"{group} has not read {settings.events_topic} yet")
    return Finding("consumer group", "ok", f"{group} is {lag} event(s) behind on {settings.events_topic}")


def _committed(consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    """The committed offsets; waits while the cluster sets up the group's coordinator."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return consumer.committed(partitions, timeout=TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() not in NOT_YET or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def check_registry(settings: Settings) -> Iterator[Finding]:
    """The schema registry answers, where one is set."""
    url = settings.schema_registry_url
    if not url:
        yield Finding("schema registry", "ok", "none is set: events carry the fingerprint of their schema")
        return
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/subjects", timeout=TIMEOUT_S):  # noqa: S310 - the user's own URL
            pass
    except (OSError, ValueError) as error:
        advice = "Start it, or set FUNNELWATCH_SCHEMA_REGISTRY_URL to where it is, or to nothing."
        reason = getattr(error, "reason", error)
        yield Finding("schema registry", "FAILED", f"{url} does not answer: {reason}", advice)
    else:
        yield Finding("schema registry", "ok", f"{url} answers")


def check_database(settings: Settings) -> Iterator[Finding]:
    """The database answers, is recent enough, and has its tables."""
    try:
        with psycopg.connect(settings.timescale_url, connect_timeout=round(TIMEOUT_S)) as session:
            version = session.info.server_version
            extension = session.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
            tables = session.execute("SELECT to_regclass('stream_progress') IS NOT NULL").fetchone()
    except psycopg.Error as error:
        advice = START.format(variable="FUNNELWATCH_TIMESCALE_URL")
        yield Finding("database", "FAILED", " ".join(str(error).split()), advice)
        return
    name = f"PostgreSQL {version // 10_000}.{version % 10_000}"
    if version < OLDEST_DATABASE:
        yield Finding("database", "FAILED", name, "Use PostgreSQL 15 or later.")
        return
    kind = f"with TimescaleDB {extension[0]}" if extension else "plain, without TimescaleDB: nothing is compressed"
    yield Finding("database", "ok", f"{name}, {kind}")
    if tables == (True,):
        yield Finding("tables", "ok", "they are there")
    else:
        advice = "A worker makes them when it starts: `funnelwatch worker`."
        yield Finding("tables", "warning", "the database has no tables of funnelwatch", advice)


def check_redis(settings: Settings) -> Iterator[Finding]:
    """Redis can be used, for a single server, a cluster or by Sentinels, and does not throw windows away."""
    where = without_password(settings.redis_url)
    hot = HotCopy(settings.redis_url, settings.redis_prefix, settings.hot_horizon_s, settings.events_topic)
    try:
        hot.probe()
        server = server_of(hot.client)
        state = hot.state()
    except Outage as error:
        advice = f"{START.format(variable='FUNNELWATCH_REDIS_URL')} Counting goes on without it."
        yield Finding("redis", "FAILED", f"{where}: {explain(error)}", advice)
        return
    finally:
        hot.close()
    if server.max_memory > 0 and server.policy != "noeviction":
        message = f"maxmemory-policy is {server.policy}: windows may be missing when its memory is full"
        yield Finding("redis", "warning", message, "Set maxmemory-policy to noeviction.")
    elif state.epoch and not state.is_whole(hot.oldest(now_ms())):
        message = f"{server.kind} at {where} does not have all hot windows: readers use the database"
        yield Finding("redis", "warning", message, "A worker that runs copies them; see its log.")
    else:
        policy = f", maxmemory-policy {server.policy}" if server.policy else ""
        yield Finding("redis", "ok", f"{server.kind} {server.version} at {where}{policy}")
