"""The servers as this process sees them: the last answer of each, the tasks that wait for it, and one log for outages.

Many threads need the same server, and each retries by itself. All report here, so that the log has one line when a
server goes away, one each half minute while it is away, and one when everything works again.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
import redis
from confluent_kafka import KafkaError, KafkaException

from funnelwatch.producers.kafka.topics import KafkaUnreachable
from funnelwatch.schemas.codec import RegistryUnavailable
from funnelwatch.schemas.redaction import error_text, redacted
from funnelwatch.sinks.redis.client import explain

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("funnelwatch.sinks.retry")

KAFKA, DATABASE, REDIS, SCHEMA_REGISTRY = "Kafka", "PostgreSQL", "Redis", "schema registry"

REPORT_EVERY_S = 30.0
LOST_AFTER_S = 20.0
"""A server that has not answered for this long is unreachable, s; each is asked every five seconds."""
FORGOTTEN_AFTER_S = 90.0
"""A task that was not retried for this long is over, s: another worker does it by now."""

ERRORS: tuple[tuple[type[Exception], str], ...] = (
    (psycopg.Error, DATABASE),
    (KafkaException, KAFKA),
    (KafkaUnreachable, KAFKA),
    (RegistryUnavailable, SCHEMA_REGISTRY),
    (redis.RedisError, REDIS),
)


def server_of(error: Exception, what: str) -> str:
    """Name of the server that raised an error; the first part of the task's name where the error does not show it."""
    return next((server for kind, server in ERRORS if isinstance(error, kind)), what.partition(":")[0])


@dataclass
class _Task:
    since: float
    last: float


@dataclass
class _Outage:
    since: float
    error: str
    reported: float = float("-inf")
    tasks: dict[str, _Task] = field(default_factory=dict)


class Servers:
    """The servers of this process: when each last answered, and its outages. Thread-safe.

    Args:
        monotonic: the clock, s.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self.on_failure: Callable[[str], None] = lambda what: None
        """Called with the name of each task that failed."""
        self._outages: dict[str, _Outage] = {}
        self._contacts: dict[str, float] = {}

    def answered(self, server: str) -> None:
        """Record that a server has answered just now."""
        with self._lock:
            self._contacts[server] = self._monotonic()

    def silent_s(self, server: str) -> float:
        """Time since a server last answered, s; NaN if it never has."""
        with self._lock:
            contact = self._contacts.get(server)
        return float("nan") if contact is None else self._monotonic() - contact

    def reachable(self, server: str) -> bool:
        """Whether a server has answered within the last seconds."""
        return self.silent_s(server) <= LOST_AFTER_S

    def failed(self, what: str, error: Exception) -> None:
        """Record that a task failed because a server is away, and log the outage now and then."""
        self.on_failure(what)
        now, server, text = self._monotonic(), server_of(error, what), _error_text(error)
        with self._lock:
            outage = self._outages.get(server)
            if outage is not None:
                self._forget(outage, now)
            if outage is None or not outage.tasks:
                outage = self._outages[server] = _Outage(now, text)
            outage.error = text
            task = outage.tasks.setdefault(what, _Task(now, now))
            task.last = now
            if now - outage.reported < REPORT_EVERY_S:
                return
            outage.reported = now
            line = f"{server}: waiting, since {now - outage.since:.0f} s: {text}{_waiting(outage, server)}"
        log.warning("%s", line)

    def done(self, what: str) -> None:
        """Record that a task works; log the end of an outage for which only this task still waited."""
        now = self._monotonic()
        with self._lock:
            over = []
            for server, outage in self._outages.items():
                if outage.tasks.pop(what, None) is not None:
                    self._forget(outage, now)
                    if not outage.tasks:
                        over.append((server, now - outage.since))
            for server, _ in over:
                del self._outages[server]
        for server, lasted in over:
            log.warning("%s: works again, after %.1f s", server, lasted)

    def away(self) -> list[str]:
        """Servers that have not answered lately, among those that a task waits for or that once answered."""
        with self._lock:
            known = {*self._contacts, *(server for server, outage in self._outages.items() if outage.tasks)}
        return sorted(server for server in known if not self.reachable(server))

    def waiting(self) -> list[str]:
        """One sentence for each server that a task waits for, or that has stopped answering."""
        now, sentences = self._monotonic(), []
        with self._lock:
            for server, outage in sorted(self._outages.items()):
                self._forget(outage, now)
                if outage.tasks:
                    sentences.append(
                        f"waits for {server} since {now - outage.since:.0f} s{_waiting(outage, server)}: {outage.error}"
                    )
            for server, last in sorted(self._contacts.items()):
                busy = server in self._outages and self._outages[server].tasks
                if now - last > LOST_AFTER_S and not busy:
                    sentences.append(f"{server} has not answered for {now - last:.0f} s")
        return sentences

    @staticmethod
    def _forget(outage: _Outage, now: float) -> None:
        outage.tasks = {what: task for what, task in outage.tasks.items() if now - task.last <= FORGOTTEN_AFTER_S}


def _waiting(outage: _Outage, server: str) -> str:
    names = sorted(what.removeprefix(f"{server}: ") for what in outage.tasks if what != server)
    return f" ({', '.join(names)})" if names else ""


def _error_text(error: Exception) -> str:
    """An error's text without secrets and line breaks; its type where it has no text."""
    if isinstance(error, KafkaException) and error.args and isinstance(error.args[0], KafkaError):
        return redacted(str(error.args[0].str()))
    return explain(error) if isinstance(error, redis.RedisError) else error_text(error)


servers = Servers()
"""The servers of this process."""
