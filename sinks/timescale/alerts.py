"""The detector's progress, states and outbox of alerts, updated together in one transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from funnelwatch.sinks.errors import BusyError
from funnelwatch.sinks.timescale.database import Database, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class OvertakenError(BusyError):
    """Another worker has saved for this funnel meanwhile: nothing was written.

    A worker that was frozen gets this error when it resumes. It must read the states again.
    """


class AlertStore:
    """States and outbox; for one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def last_window(self, funnel: str) -> int | None:
        """The newest evaluated window, ms; None before the first."""
        rows = self._database.query("detector_progress", {"funnel": funnel})
        return rows[0]["last_window_ms"] if rows else None

    def states(self, funnel: str) -> list[str]:
        """The saved states, JSON."""
        return [row["state"] for row in self._database.query("read_states", {"funnel": funnel})]

    def saves(self, funnel: str) -> int:
        """The number of saves for this funnel; read it before the states."""
        rows = self._database.query("detector_saves", {"funnel": funnel})
        return int(rows[0]["saves"]) if rows else 0

    def save(
        self,
        funnel: str,
        window_ms: int,
        states: Mapping[str, str],
        alerts: Sequence[Mapping[str, Any]],
        saves: int | None = None,
    ) -> int:
        """Record that a window was evaluated, with the resulting states and alerts: all or nothing.

        Args:
            funnel: the funnel.
            window_ms: the newest evaluated window.
            states: key to state, JSON; only those that changed.
            alerts: records of the Alert schema; one that is there already (same id and sequence) stays unchanged.
            saves: the number of saves on which these states are based; None: any.

        Returns:
            The number of saves now.

        Raises:
            OvertakenError: the number has changed; nothing was written.
        """
        with self._database.transaction() as cursor:
            moved = run(cursor, "move_detector", {"funnel": funnel, "window_ms": window_ms, "saves": saves})
            if not moved:
                raise OvertakenError(f"another worker has gone on with funnel {funnel}")
            for key, state in sorted(states.items()):
                run(cursor, "save_state", {"funnel": funnel, "state_key": key, "state": state})
            for alert in alerts:
                parameters = {
                    "alert_id": alert["alert_id"],
                    "sequence": alert["sequence"],
                    "alert": json.dumps(alert),
                }
                run(cursor, "add_alert", parameters)
        return int(moved[0]["saves"])

    def outbox(self, funnel: str) -> list[dict[str, Any]]:
        """The unpublished alerts, in order."""
        return [row["alert"] for row in self._database.query("outbox", {"funnel": funnel})]

    def last_message(self, alert_id: str) -> dict[str, Any] | None:
        """The last message of an alert, published or not; None if there is none."""
        rows = self._database.query("last_message", {"alert_id": alert_id})
        return rows[0]["alert"] if rows else None

    def published(self, alerts: Sequence[Mapping[str, Any]]) -> None:
        """Record that Kafka has acknowledged these alerts."""
        with self._database.transaction() as cursor:
            for alert in alerts:
                run(cursor, "published", {"alert_id": alert["alert_id"], "sequence": alert["sequence"]})

    def recent(self, limit: int, *, state: str | None = None, current: bool = False) -> list[dict[str, Any]]:
        """The newest messages of alerts, newest first.

        Args:
            limit: at most this many.
            state: only "firing" or "resolved" messages; None: all.
            current: only the last message of each alert.
        """
        parameters = {"limit": limit, "state": state, "current": current}
        return [row["alert"] for row in self._database.query("recent_alerts", parameters)]

    def asked(
        self,
        limit: int,
        *,
        current: bool = False,
        since_ms: int | None = None,
        until_ms: int | None = None,
        dimensions: Mapping[str, str] | None = None,
        **wanted: str | None,
    ) -> list[dict[str, Any]]:
        """The newest messages of alerts that match some filters, newest first.

        Args:
            limit: at most this many.
            current: only the last message of each alert.
            since_ms: only those of windows that end at this time or later, ms, UTC.
            until_ms: and before this.
            dimensions: the values of dimensions that the alert is about; None: any.
            wanted: funnel, step (one of several too), rule, severity, state; None: any.
        """
        names = ("funnel", "step", "rule", "severity", "state")
        parameters = {
            **dict.fromkeys(names),
            **wanted,
            "limit": limit,
            "current": current,
            "dimensions": Jsonb(dimensions or {}),
            "since_ms": since_ms,
            "until_ms": until_ms,
        }
        return [row["alert"] for row in self._database.query("asked_alerts", parameters)]
