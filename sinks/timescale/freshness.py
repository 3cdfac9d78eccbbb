"""What the database says of how current the figures are: workers' heartbeats, closing and judging of each funnel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.freshness import Freshness, FunnelSeen, WorkerSeen, freshness, worst

if TYPE_CHECKING:
    from sinks.timescale.database import Database


class FreshnessStore:
    """Reads; for one thread at a time."""

    def __init__(self, database: Database, topic: str) -> None:
        self._database = database
        self._topic = topic

    def workers(self) -> list[WorkerSeen]:
        """Every worker of the topic that was seen lately, the one that was seen last first."""
        return [WorkerSeen(**row) for row in self._database.query("workers", {"topic": self._topic})]

    def funnels(self) -> list[FunnelSeen]:
        """Every funnel that was ever counted."""
        return [FunnelSeen(**row) for row in self._database.query("funnels_freshness")]

    def of(self, funnel: str | None, stale_ms: int) -> Freshness | None:
        """The freshness of a funnel, or the worst of all; None where nothing of it was ever counted."""
        workers = self.workers()
        found = [freshness(one, workers, stale_ms) for one in self.funnels() if funnel in {None, one.funnel}]
        return worst(found)
