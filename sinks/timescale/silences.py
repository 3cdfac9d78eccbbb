"""Silences as they are kept; they survive whatever restarts."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from funnelwatch.alert_rules.silences import Silence
from funnelwatch.sinks.timescale.database import Database, run

if TYPE_CHECKING:
    from collections.abc import Mapping


class SilenceStore:
    """Silences, and the messages that they muted; for one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, silence: Silence) -> int:
        """Keep a silence, whatever number it has; its number.

        Raises:
            psycopg.errors.CheckViolation: it names nothing, or ends before it begins.
        """
        parameters: Mapping[str, Any] = {**asdict(silence), "dimensions": Jsonb(silence.dimensions)}
        return int(self._database.query("add_silence", parameters)[0]["id"])

    def expire(self, numbers: list[int], now_ms: int) -> list[int]:
        """End silences now, all together; those that there are none of, or that have ended, are left out."""
        with self._database.transaction() as cursor:
            ended = [run(cursor, "expire_silence", {"id": number, "now_ms": now_ms}) for number in numbers]
        return [row["id"] for rows in ended for row in rows]

    def after(self, now_ms: int) -> list[Silence]:
        """Those that end after this time: what is active then, and what is still to come."""
        return [Silence(**row) for row in self._database.query("silences", {"after_ms": now_ms})]

    def muted(self, funnel: str) -> list[dict[str, Any]]:
        """The last message of each alert of a funnel that fires and whose last message was muted."""
        return [row["alert"] for row in self._database.query("muted_alerts", {"funnel": funnel})]
