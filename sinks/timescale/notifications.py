"""The notifier's queue and log, one row a message and route, so that a restart neither repeats nor forgets one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from funnelwatch.sinks.timescale.database import Connection, Database, Row, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import SecretStr

UNSTORABLE = re.compile("[\0\ud800-\udfff]")

HELD_S = 60.0
"""The server ends the session of a worker that is frozen for this long, s; another notifier then takes its route."""


@dataclass(frozen=True, slots=True)
class Queued:
    """For which route a message is queued, and how.

    Attributes:
        route: its name.
        only_if_known: only where the route has a message of the same alert.
        noted_as: the message is only recorded, with this outcome, and ends waiting messages of its alert; None: it is
            sent.
    """

    route: str
    only_if_known: bool = False
    noted_as: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The message that a route sends next.

    Attributes:
        alert: the message.
        attempts: attempts so far.
        unanswered: attempts in which the whole message left and no answer came.
        age_s: time since the first attempt, s.
        previous: the last message of the same alert that the receiver has, or may have; None: there is none.
    """

    alert: dict[str, Any]
    attempts: int
    unanswered: int
    age_s: float
    previous: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an attempt, as it is recorded.

    Attributes:
        alert: the message.
        attempt: the attempt's number.
        outcome: the final outcome of the message; None: it stays queued.
        answer: the receiver's answer.
        is_unanswered: the whole message left, and no answer came.
        pause_s: shortest time until the next attempt, s.
    """

    alert: Mapping[str, Any]
    attempt: int
    outcome: str | None
    answer: str
    is_unanswered: bool = False
    pause_s: float = 0.0


class NotificationQueue:
    """The notifier's view: it queues messages, and a person reads the log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, routes: Sequence[str]) -> tuple[set[str], dict[str, int]]:
        """Record the routes; returns new ones, and since when each is used, Unix time, ms."""
        with self._database.transaction() as cursor:
            new = {row["route"] for row in run(cursor, "start_routes", {"routes": list(routes)})}
            return new, {row["route"]: row["since_ms"] for row in run(cursor, "read_routes")}

    def queue(self, alert: Mapping[str, Any], wanted: Sequence[Queued]) -> list[str]:
        """Queue a message for some routes. Idempotent; returns the routes for which it is new."""
        parameters = {
            "alert_id": storable(alert["alert_id"]),
            "sequence": alert["sequence"],
            "alert": json.dumps(storable(alert)),
            "routes": [one.route for one in wanted],
            "only_if_known": [one.only_if_known for one in wanted],
            "noted_as": [one.noted_as for one in wanted],
        }
        return [row["route"] for row in self._database.query("queue_notification", parameters)]

    def waiting(self) -> dict[str, tuple[int, float]]:
        """For each route with waiting messages their number, and how long the oldest has waited, s."""
        rows = self._database.query("waiting_notifications")
        return {row["route"]: (row["waiting"], row["oldest_s"]) for row in rows}

    def recent(self, limit: int, route: str | None = None) -> list[Row]:
        """The newest entries of the log, newest first; a waiting message has the outcome None."""
        return self._database.query("recent_notifications", {"limit": limit, "route": route})


class RouteStore:
    """A route worker's view of queue and log; for one thread.

    Args:
        url: the database; the route worker has a connection of its own, whose session holds the route.
        route: the route's name.
    """

    def __init__(self, url: str | SecretStr, route: str) -> None:
        self._database = Database(url, application=f"funnelwatch notify {route}"[:63], idle_session_s=HELD_S)
        self._route = {"route": route}
        self._held: Connection | None = None

    def hold(self) -> bool:
        """Whether this route worker owns the route; takes the route if it is free."""
        connection = self._database.connection()
        if connection is not self._held:
            self._held = connection if self._database.query("hold_route", self._route)[0]["held"] else None
        return self._held is not None

    def keep(self) -> None:
        """Keep the session alive, if this route worker owns the route."""
        if self._held is not None:
            self._database.query("keep_session")

    def next(self, *, only_resolved: bool = False) -> Waiting | None:
        """The message to send next; None: no message waits.

        Args:
            only_resolved: send a resolved message also where its firing message was not sent.
        """
        with self._database.transaction() as cursor:
            run(cursor, "supersede", self._route)
            if not only_resolved:
                run(cursor, "skip_resolved", self._route)
            rows = run(cursor, "next_notification", self._route)
        return Waiting(**rows[0]) if rows else None

    def begin(self, alert: Mapping[str, Any]) -> int | None:
        """Record that an attempt begins; returns its number, None where the message is decided meanwhile."""
        parameters = {"alert_id": alert["alert_id"], "sequence": alert["sequence"]}
        rows = self._database.query("begin_attempt", {**self._route, **parameters})
        return rows[0]["attempts"] if rows else None

    def note(self, result: Result) -> None:
        """Record the result of an attempt. Idempotent."""
        parameters = {
            "alert_id": result.alert["alert_id"],
            "sequence": result.alert["sequence"],
            "attempt": result.attempt,
            "outcome": result.outcome,
            "answer": storable(result.answer),
            "unanswered": result.is_unanswered,
            "pause_s": result.pause_s,
        }
        self._database.query("note_attempt", {**self._route, **parameters})

    def retry_given_up(self, after_s: float) -> list[str]:
        """Queue messages again that were given up this long ago and whose alerts still fire; returns the alerts."""
        rows = self._database.query("retry_given_up", {**self._route, "after_s": after_s})
        return [row["alert_id"] for row in rows]

    def firing(self) -> list[dict[str, Any]]:
        """The alerts whose last message to this route was firing."""
        return [row["alert"] for row in self._database.query("notified_firing", self._route)]

    def close(self) -> None:
        """Release the route and the connection."""
        self._held = None
        self._database.close()


def storable(value: Any) -> Any:
    """The value without characters that PostgreSQL cannot store: NUL and halves of surrogate pairs."""
    if isinstance(value, str):
        return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {storable(name): storable(part) for name, part in value.items()}
    return [storable(part) for part in value] if isinstance(value, list) else value
