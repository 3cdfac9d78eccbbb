"""Checks of ``funnelwatch doctor`` for Kafka, the schema registry, the database and Redis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psycopg
from confluent_kafka import KafkaError, KafkaException

from funnelwatch.cli.errors import explain_database
from funnelwatch.deploy.embedded.kafka_client import admin
from funnelwatch.producers.kafka.rejection import ADVICE, kafka_rejection
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.codec import Registry, RegistryUnavailable
from funnelwatch.schemas.kafka_config import KafkaConfigError
from funnelwatch.schemas.redaction import error_text, redacted, revealed, shown, shown_brokers
from funnelwatch.schemas.settings import PREFIX
from funnelwatch.sinks.redis.cache import REDIS_ERRORS
from funnelwatch.sinks.redis.client import NO_REDIS, explain, server_of
from funnelwatch.sinks.redis.configured import count_cache
from funnelwatch.stream.worker.broker_credentials import connection_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings

TIMEOUT_S = 5.0
START = "Start it (`funnelwatch up` starts one here), or set {variable} to where it is."
NOT_YET = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}
"""Errors with which a cluster answers requests about groups in its first seconds."""
OLDEST_DATABASE = 150_000

Level = Literal["ok", "unused", "warning", "unknown", "FAILED"]
"""``unused``: the server is optional, and none is configured."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: Level
    message: str
    advice: str = ""

    def __post_init__(self) -> None:
        """No finding shows a secret, whatever error it is made of."""
        object.__setattr__(self, "message", redacted(self.message))


def check_kafka(settings: Settings) -> Iterator[Finding]:
    """The brokers answer, and the topics are there."""
    client, where = admin(settings.kafka()), shown_brokers(settings.kafka_bootstrap_servers)
    try:
        cluster = client.list_topics(timeout=TIMEOUT_S)
    except KafkaException as error:
        if rejection := kafka_rejection(settings.kafka()):
            yield Finding("kafka", "FAILED", f"{where} rejects the connection: {rejection}", f"{ADVICE}.")
            return
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


def check_worker_connection(settings: Settings) -> Finding:
    """Check the connection of Faust, which speaks to Kafka through another client than everything else."""
    try:
        wrong = connection_error(settings, TIMEOUT_S)
    except KafkaConfigError as error:
        advice = "A worker does not start with it; every other command can use it."
        return Finding("kafka (worker)", "FAILED", f"{PREFIX}KAFKA_CONFIG: {error}", advice)
    if wrong is not None:
        advice = f"Other clients connect: see that {PREFIX}KAFKA_CONFIG is complete without librdkafka's defaults."
        return Finding("kafka (worker)", "FAILED", f"a worker cannot connect: {wrong}", advice)
    return Finding("kafka (worker)", "ok", "a worker can connect and log in")


def check_registry(settings: Settings) -> Iterator[Finding]:
    """The schema registry answers, where one is set."""
    if not settings.schema_registry_url:
        yield Finding("schema registry", "unused", "none is configured: events carry the fingerprint of their schema")
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
        _, advice = explain_database(error, "FUNNELWATCH_TIMESCALE_URL")
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
    """Redis can be used, for a single server, a cluster or by Sentinels, and does not throw windows away.

    It is optional: where none is configured, the finding has a level of its own.
    """
    where, cache = shown(settings.redis_url), count_cache(settings)
    if cache is None:
        yield Finding("redis", "unused", f"{NO_REDIS}: readers read the database")
        return
    try:
        cache.probe()
        server = server_of(cache.client)
        state = cache.state()
    except REDIS_ERRORS as error:
        advice = f"{START.format(variable='FUNNELWATCH_REDIS_URL')} Counting goes on without it."
        yield Finding("redis", "FAILED", f"{where}: {explain(error)}", advice)
        return
    finally:
        cache.close()
    if server.max_memory > 0 and server.policy != "noeviction":
        message = f"maxmemory-policy is {server.policy}: windows may be missing when its memory is full"
        yield Finding("redis", "warning", message, "Set maxmemory-policy to noeviction.")
    elif state.epoch and not state.is_whole(cache.oldest(wall_clock_ms())):
        message = f"{server.kind} at {where} does not have all recent windows: readers use the database"
        yield Finding("redis", "warning", message, "A worker that runs copies them; see its log.")
    else:
        policy = f", maxmemory-policy {server.policy}" if server.policy else ""
        yield Finding("redis", "ok", f"{server.kind} {server.version} at {where}{policy}")
