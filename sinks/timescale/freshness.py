"""Reads how fresh the figures are: workers' heartbeats, and how far each funnel is closed and evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from funnelwatch.schemas.freshness import Freshness, FunnelSeen, Why, WorkerSeen, by_workers, freshness, worst

if TYPE_CHECKING:
    from funnelwatch.sinks.timescale.database import Database

UNKNOWN = (
    "It is not known whether these figures are current: the database has no heartbeats of workers yet (a worker of "
    "this version makes the table), or this user may not read them"
)


class FreshnessStore:
    """Reads; for one thread at a time."""

    def __init__(self, database: Database, topic: str) -> None:
        self._database = database
        self._topic = topic

    def tables(self) -> bool:
        """Whether any worker has ever made tables here."""
        return bool(self._database.query("has_progress")[0]["there"])

    def workers(self) -> list[WorkerSeen]:
        """Every worker of the topic that was seen lately, the one that was seen last first."""
        return [WorkerSeen(**row) for row in self._database.query("workers", {"topic": self._topic})]

    def funnels(self) -> list[FunnelSeen]:
        """Every funnel that was ever counted."""
        return [FunnelSeen(**row) for row in self._database.query("funnels_freshness")]

    def of(self, funnel: str | None, stale_ms: int) -> Freshness:
        """The freshness of a funnel, or the worst of all.

        Unknown where no event of the funnel was ever counted, and where the tables are missing or not readable.
        """
        try:
            workers = self.workers()
            found = [freshness(one, workers, stale_ms) for one in self.funnels() if funnel in {None, one.funnel}]
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InsufficientPrivilege):
            return Freshness("unknown", Why.UNREACHABLE, None, UNKNOWN)
        if not found and funnel is None and any(worker.alive for worker in workers):
            return by_workers(workers)
        nothing = "Nothing was ever counted" if funnel is None else f"Nothing of {funnel} was ever counted"
        return worst(found) or Freshness("unknown", Why.NO_WINDOW, None, nothing)
