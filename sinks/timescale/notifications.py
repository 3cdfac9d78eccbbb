"""The queue and the log of the notifier, one row a message and route, so that a restart neither repeats nor forgets."""

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
"""The server ends the session of a worker frozen for so long, s; then another notifier may take its route."""


@dataclass(frozen=True, slots=True)
class Queued:
    """For which route a message is queued, and how.

    Attributes:
        route: its name.
        only_if_known: only where the route has a message of the same alert.
        noted_as: the message is only noted, with this outcome, and ends what waits of the alert; None: it is sent.
    """

    route: str
    only_if_known: bool = False
    noted_as: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a route is to send next.

    Attributes:
        alert: the message.
        attempts: how often it was tried.
        unanswered: how often all of it was sent and no answer came.
        age_s: how long ago it was tried first, s.
        previous: what the receiver has, or may have, of the same alert from before; None: nothing.
    """

    alert: dict[str, Any]
    attempts: int
    unanswered: int
    age_s: float
    previous: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an attempt, as it is noted.

    Attributes:
        alert: the message.
        attempt: the attempt's number.
        outcome: what the message is done with; None: it stays queued.
        answer: what the receiver said.
        is_unanswered: all was sent and no answer came.
        pause_s: the message is not tried again sooner, s.
    """

    alert: Mapping[str, Any]
    attempt: int
    outcome: str | None
    answer: str
    is_unanswered: bool = False
    pause_s: float = 0.0


class NotificationQueue:
    """What the intake writes, and what a person may read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, routes: Sequence[str]) -> tuple[set[str], dict[str, int]]:
        """Note the routes; those that are new, and since when each is used, ms."""
        with self._database.transaction() as cursor:
            new = {row["route"] for row in run(cursor, "start_routes", {"routes": list(routes)})}
            return new, {row["route"]: row["since_ms"] for row in run(cursor, "read_routes")}

    def queue(self, alert: Mapping[str, Any], wanted: Sequence[Queued]) -> list[str]:
        """Queue a message for some routes, once however often this is called; the routes for which it is new."""
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
        """Route to how many messages wait there, and for how long the oldest has, s; without those that have none."""
        rows = self._database.query("waiting_notifications")
        return {row["route"]: (row["waiting"], row["oldest_s"]) for row in rows}

    def recent(self, limit: int, route: str | None = None) -> list[Row]:
        """The newest of the log, newest first: what is still to be told comes with the outcome None."""
        return self._database.query("recent_notifications", {"limit": limit, "route": route})


class RouteStore:
    """What one route worker takes from the queue and notes in the log; for one thread.

    Args:
        url: the database; the route worker has a connection of its own, whose session holds the route.
        route: the route's name.
    """

    def __init__(self, url: str | SecretStr, route: str) -> None:
        self._database = Database(url, application=f"funnelwatch notify {route}"[:63], idle_session_s=HELD_S)
        self._route = {"route": route}
        self._held: Connection | None = None

    def hold(self) -> bool:
        """Whether this route worker has the route; takes it if nobody else does."""
        connection = self._database.connection()
        if connection is not self._held:
            self._held = connection if self._database.query("hold_route", self._route)[0]["held"] else None
        return self._held is not None

    def keep(self) -> None:
        """Tell the database that this route worker lives, if it has the route."""
        if self._held is not None:
            self._database.query("still_here")

    def next(self, *, resolved_alone: bool = False) -> Waiting | None:
        """What is to be sent next; None: nothing waits.

        Args:
            resolved_alone: send that an alert resolved also where its firing was not sent.
        """
        with self._database.transaction() as cursor:
            run(cursor, "supersede", self._route)
            if not resolved_alone:
                run(cursor, "pass_over_resolved", self._route)
            rows = run(cursor, "next_notification", self._route)
        return Waiting(**rows[0]) if rows else None

    def begin(self, alert: Mapping[str, Any]) -> int | None:
        """Note that an attempt begins; its number, None where the message is no longer to be sent."""
        parameters = {"alert_id": alert["alert_id"], "sequence": alert["sequence"]}
        rows = self._database.query("begin_attempt", {**self._route, **parameters})
        return rows[0]["attempts"] if rows else None

    def note(self, result: Result) -> None:
        """Note what came of an attempt; may be repeated."""
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

    def try_given_up_again(self, after_s: float) -> list[str]:
        """Queue anew what was given up this long ago and still fires; the alerts."""
        rows = self._database.query("try_given_up_again", {**self._route, "after_s": after_s})
        return [row["alert_id"] for row in rows]

    def firing(self) -> list[dict[str, Any]]:
        """The alerts that fire, as far as the route was told."""
        return [row["alert"] for row in self._database.query("notified_firing", self._route)]

    def close(self) -> None:
        """Let the route and the connection go."""
        self._held = None
        self._database.close()


def storable(value: Any) -> Any:
    """The value without what PostgreSQL does not keep in a text: NUL and halves of surrogate pairs."""
    if isinstance(value, str):
        return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {storable(name): storable(part) for name, part in value.items()}
    return [storable(part) for part in value] if isinstance(value, list) else value
