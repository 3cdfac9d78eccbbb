"""Heartbeats: each worker reports every few seconds that it lives, and its problems."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from funnelwatch.sinks.timescale.database import Database

LONGEST_SENTENCE = 2_000
PRUNE_EVERY = 60
"""Each so many-th beat deletes the rows of workers that are long gone."""


def own_version() -> str:
    """Version of this program; empty where it is not installed."""
    try:
        return version("funnelwatch")
    except PackageNotFoundError:
        return ""


class HeartbeatStore:
    """Writes the heartbeat of one worker; for one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._beats = 0

    def beat(self, worker: str, topic: str, host: str, pid: int, *, assigned: int, error: str | None) -> None:
        """Report that a worker lives.

        Raises:
            psycopg.Error: the database is away.
        """
        parameters = {
            "worker": worker, "topic": topic, "host": host, "pid": pid, "version": own_version(), "assigned": assigned,
            "error": None if error is None else error.replace("\x00", "")[:LONGEST_SENTENCE],
        }  # fmt: skip
        self._database.query("beat", parameters)
        if self._beats % PRUNE_EVERY == 0:
            self._database.query("prune_heartbeats", {"topic": topic})
        self._beats += 1

    def end(self, worker: str) -> None:
        """Report that a worker ends on purpose.

        Raises:
            psycopg.Error: the database is away.
        """
        self._database.query("end_heartbeat", {"worker": worker})
