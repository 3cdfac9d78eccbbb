"""What ``funnelwatch doctor`` asks Kafka, the schema registry, the database and Redis."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psycopg
import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from deploy.embedded.kafka_client import admin
from funnelwatch.kafka_config import KafkaConfigError
from funnelwatch.settings import PREFIX
from schemas.codec import Registry, RegistryUnavailable
from schemas.redaction import error_text, redacted, revealed, shown, shown_brokers
from stream.broker_credentials import connection_fault

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

    def __post_init__(self) -> None:
        """No finding shows a secret, whatever error it is made of."""
        object.__setattr__(self, "message", redacted(self.message))


def check_kafka(settings: Settings) -> Iterator[Finding]:
    """The brokers answer, the topics are there, and how far the workers are behind."""
    client, where = admin(settings.kafka()), shown_brokers(settings.kafka_bootstrap_servers)
    try:
        cluster = client.list_topics(timeout=TIMEOUT_S)
    except KafkaException as error:
        message = f"no broker answers at {where}: {error.args[0].str()}"
        advice = START.format(variable="FUNNELWATCH_KAFKA_BOOTSTRAP_SERVERS")
        yield Finding("kafka", "FAILED", message, advice)
        return
    yield Finding("kafka", "ok", f"{len(cluster.brokers)} broker(s) at {where}")
    yield check_worker_connection(settings)
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


def check_worker_connection(settings: Settings) -> Finding:
    """Check the connection of Faust, which speaks to Kafka through another client than everything else."""
    try:
        fault = connection_fault(settings, TIMEOUT_S)
    except KafkaConfigError as error:
        advice = "A worker does not start with it; every other command can use it."
        return Finding("kafka (worker)", "FAILED", f"{PREFIX}KAFKA_CONFIG: {error}", advice)
    if fault is not None:
        advice = f"Other clients connect: see that {PREFIX}KAFKA_CONFIG is complete without librdkafka's defaults."
        return Finding("kafka (worker)", "FAILED", f"a worker cannot connect: {fault}", advice)
    return Finding("kafka (worker)", "ok", "a worker can connect and log in")


def _lag(settings: Settings, partitions: list[TopicPartition]) -> Finding:
    """How far the committed offsets are from the ends.

    A consumer is asked, which never joins the group: the admin client's calls for this were seen to crash the process
    (confluent-kafka 2.16) while the cluster sets up its group coordinator.
    """
    group = settings.consumer_group
    consumer = Consumer(
        {"log_level": 0, **settings.kafka("consumer", **{"group.id": group, "enable.auto.commit": False})}
    )
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
    if not settings.schema_registry_url:
        yield Finding("schema registry", "ok", "none is set: events carry the fingerprint of their schema")
        return
    try:
        Registry(settings.schema_registry_url, timeout_s=TIMEOUT_S).ping()
    except (RegistryUnavailable, ValueError) as error:
        advice = "Start it, or set FUNNELWATCH_SCHEMA_REGISTRY_URL to where it is, or to nothing."
        yield Finding("schema registry", "FAILED", str(error), advice)
    else:
        yield Finding("schema registry", "ok", f"{shown(settings.schema_registry_url)} answers")


def check_database(settings: Settings) -> Iterator[Finding]:
    """The database answers, is recent enough, and has its tables."""
    try:
        with psycopg.connect(revealed(settings.timescale_url), connect_timeout=round(TIMEOUT_S)) as session:
            version = session.info.server_version
            extension = session.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
            tables = session.execute("SELECT to_regclass('stream_progress') IS NOT NULL").fetchone()
    except psycopg.Error as error:
        advice = START.format(variable="FUNNELWATCH_TIMESCALE_URL")
        yield Finding("database", "FAILED", f"{shown(settings.timescale_url)}: {error_text(error)}", advice)
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
    """Redis answers, and does not throw windows away."""
    try:
        with redis.Redis.from_url(
            revealed(settings.redis_url),
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            decode_responses=True,
        ) as client:
            memory = client.info("memory")
            version = client.info("server").get("redis_version", "")
    except (redis.RedisError, ValueError) as error:
        advice = START.format(variable="FUNNELWATCH_REDIS_URL")
        yield Finding("redis", "FAILED", f"{shown(settings.redis_url)}: {error_text(error)}", advice)
        return
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if int(memory.get("maxmemory", 0)) > 0 and policy != "noeviction":
        message = f"maxmemory-policy is {policy}: windows may be missing when its memory is full"
        yield Finding("redis", "warning", message, "Set maxmemory-policy to noeviction.")
    else:
        yield Finding("redis", "ok", f"version {version} at {shown(settings.redis_url)}, maxmemory-policy {policy}")
