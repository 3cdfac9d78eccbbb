"""A worker's regular contact with its servers, and its heartbeat in the database.

Each server is asked on a thread of its own, so that one that hangs does not hide the others.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

import psycopg

from funnelwatch.sinks.redis.client import connect
from funnelwatch.sinks.servers import DATABASE, KAFKA, REDIS, servers
from funnelwatch.stream.worker.ages import ages

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis
    from confluent_kafka.admin import AdminClient

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.freshness import FreshnessStore
    from funnelwatch.sinks.timescale.heartbeats import HeartbeatStore

BEAT_EVERY_S = 5.0
TIMEOUT_S = 3.0


class Contacts:
    """Asks Kafka, the database and Redis; each method is for one thread.

    Args:
        settings: topic and Redis.
        admin: a client of Kafka.
        heartbeats: where this worker's heartbeat goes.
        freshness: how far windows are closed and evaluated.
        assigned: gives the number of partitions of the events topic that this worker has.
        problem: gives the problem of this worker, in a sentence; None: there is none.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        admin: AdminClient,
        heartbeats: HeartbeatStore,
        freshness: FreshnessStore,
        assigned: Callable[[], int],
        problem: Callable[[], str | None],
    ) -> None:
        self._settings = settings
        self._admin = admin
        self._heartbeats = heartbeats
        self._freshness = freshness
        self._assigned = assigned
        self._problem = problem
        self._worker = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"
        self._redis: redis.Redis | None = None

    def ask_kafka(self) -> None:
        """Note it if Kafka answers.

        Raises:
            KafkaException: it does not.
        """
        self._admin.list_topics(self._settings.events_topic, timeout=TIMEOUT_S)
        servers.answered(KAFKA)

    def ask_database(self) -> None:
        """Write the heartbeat; note that the database answers.

        Raises:
            psycopg.Error: it does not.
        """
        self._heartbeats.beat(
            self._worker,
            self._settings.events_topic,
            socket.gethostname(),
            os.getpid(),
            assigned=self._assigned(),
            error=self._problem(),
        )
        servers.answered(DATABASE)
        funnels = self._freshness.funnels()
        closed = [one.closed_through_ms for one in funnels if one.closed_through_ms is not None]
        unevaluated = [one.unevaluated_since_ms for one in funnels if one.unevaluated_since_ms is not None]
        ages.funnels(min(closed, default=None), min(unevaluated, default=None))

    def ask_redis(self) -> None:
        """Note it if Redis answers; not to be called where none is configured.

        Raises:
            redis.RedisError: it does not.
        """
        if self._redis is None:
            self._redis = connect(self._settings.redis_url, timeout_s=TIMEOUT_S, connect_timeout_s=TIMEOUT_S)
        self._redis.ping()
        servers.answered(REDIS)

    def end(self) -> None:
        """Record that this worker ends on purpose; where the database is away its heartbeat just stops."""
        if self._redis is not None:
            self._redis.close()
        if servers.reachable(DATABASE):
            with contextlib.suppress(psycopg.Error):
                self._heartbeats.end(self._worker)
