"""The condition of a worker in sentences: for probes, its heartbeat, and people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.redaction import redacted
from funnelwatch.sinks.servers import REDIS, servers
from funnelwatch.stream.worker.health import DeadClient, Health

if TYPE_CHECKING:
    from funnelwatch.alert_rules.loader import LiveRules
    from funnelwatch.stream.aggregate.cache_rebuild import CacheRebuild
    from funnelwatch.stream.intake.fetcher import Fetcher
    from funnelwatch.stream.worker.lifecycle import Component

STUCK_AFTER_S = 60.0
"""A worker that has had something to do for this long and has done nothing is not healthy."""

EXIT_AFTER_S = 120.0
"""A worker that stands still for this long and waits for no server ends: its supervisor starts a fresh one."""

DEAD_AFTER_S = 15.0
"""A Kafka client that has not answered for this long although Kafka answers never will."""

READY_AFTER_S = 3.0


class WorkerStatus:
    """Answers the probes, and words the heartbeat. From any thread.

    Args:
        rules: alert rules; an edit that cannot be used is reported.
        fetcher: the consumer of the events.
        metric_fetcher: the consumer of counters and timers.
        cache_rebuild: knows whether Redis can be used; None: no Redis is configured.
    """

    def __init__(
        self,
        rules: LiveRules,
        fetcher: Component[Fetcher],
        metric_fetcher: Component[Fetcher],
        cache_rebuild: Component[CacheRebuild] | None,
    ) -> None:
        self.health = Health(STUCK_AFTER_S, EXIT_AFTER_S, READY_AFTER_S)
        self.dead_client = DeadClient(DEAD_AFTER_S)
        self._rules = rules
        self._fetcher = fetcher
        self._fetchers = (fetcher, metric_fetcher)
        self._cache_rebuild = cache_rebuild

    def problem(self) -> str | None:
        """The problem of this worker, or the server it waits for, in a sentence; None: there is none."""
        found = self.health.problem(self._stopped(), away=bool(_away()))
        return "; ".join([*([found] if found else []), *servers.waiting()]) or None

    def readyz(self) -> tuple[dict[str, Any], int]:
        """503 while the worker joins, is not healthy, or waits for Kafka or the database; else 200."""
        fetcher = self._fetcher.if_running
        problem = self.health.unready(fetcher.changed_s if fetcher else None, self._stopped())
        return self._page(problem), 200 if problem is None and not _away() else 503

    def healthz(self) -> tuple[dict[str, Any], int]:
        """503 when a restart may help; 200 otherwise, also while a server is away: see "ok" and "waiting"."""
        problem = self.health.problem(self._stopped(), away=bool(_away()))
        return self._page(problem), 200 if problem is None else 503

    def _page(self, problem: str | None) -> dict[str, Any]:
        # A broken edit of the rules takes no worker out of service: the rules before it go on.
        # Neither does Redis: counting goes on without it.
        cache_rebuild = self._cache_rebuild.if_running if self._cache_rebuild else None
        redis_error = cache_rebuild.error if cache_rebuild else None
        waiting = servers.waiting()
        return {
            "ok": problem is None and not waiting,
            "error": _redacted(problem),
            "waiting": waiting,
            "rules_error": _redacted(self._rules.error),
            "redis_configured": self._cache_rebuild is not None,
            "redis_error": _redacted(redis_error),
        }

    def _stopped(self) -> list[str]:
        """Why partitions cannot go on without a person."""
        running = [fetcher for one in self._fetchers if (fetcher := one.if_running)]
        return [why for fetcher in running for why in fetcher.stopped.values()]


def _away() -> list[str]:
    """Servers without which nothing is counted, and that do not answer; counting goes on without Redis."""
    return [server for server in servers.away() if server != REDIS]


def _redacted(text: str | None) -> str | None:
    return redacted(text) if text else text
