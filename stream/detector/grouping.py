"""Steps that drop together are one incident, and one alert. Pure.

Each series has its own state machine; this stage decides which of their messages are published, and as what. The series
that lost most in the window in which an incident was first seen leads: its ``alert_id`` and numbers are the incident's.
A series of another step whose drop began at about the same time, within the same scope or a wider one, joins; so does
one that was part of it before::

    window          1            2                3            4              5
    INPUT_NAME      FIRST_DROP                    RECOVERED
    VERIFY_SMS_CODE              FIRST_DROP                    WORSENED       RECOVERED
    published       FIRST_DROP   WIDENED                                      RECOVERED
                    sequence 0   1, both steps                                2

It is over when all that joined are. An incident of one series is published as its state machine has it, and needs no
memory here; what has several is kept as a state of the rule ``@incident``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.texts import legible
from funnelwatch.stream.detector.state import NOTIFIED, AlertState, Reason, State, Transition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

INCIDENT = "@incident"
NEAR_WINDOWS = 15
"""Drops that began within so many windows of each other may have one cause."""


class Incidents:
    """The incidents of one funnel.

    Args:
        window_ms: length of a window.
        states: all that are kept of the funnel.
        last_message: the last message of an alert_id, published or saved to be; None if there is none.
    """

    def __init__(
        self,
        window_ms: int,
        states: Iterable[AlertState],
        last_message: Callable[[str], dict[str, Any] | None],
    ) -> None:
        self._window_ms = window_ms
        self._last_message = last_message
        self._firing: dict[str, AlertState] = {}
        """States of the series that fire, by key."""
        self._messages: dict[str, dict[str, Any]] = {}
        """The last message of those that are incidents of their own, by alert_id."""
        self._incidents: dict[str, AlertState] = {}
        """Incidents of several series, by their alert_id, which is their leader's."""
        self._incident_of: dict[str, str] = {}
        """The alert_id of each series that belongs to one, to the incident's."""
        for state in states:
            if state.rule == INCIDENT:
                self._keep(state)
            elif state.state in NOTIFIED and not state.rule.startswith("@"):
                self._firing[state.key] = state

    def group(self, moves: list[Transition]) -> list[Transition]:
        """The same transitions with the messages to publish, and the incidents that they change.

        Args:
            moves: that one window has caused, or that no window has.
        """
        begun: list[tuple[AlertState, dict[str, Any]]] = []
        out: list[Transition] = []
        for move in moves:
            if move.alert and move.state.reason is Reason.FIRST_DROP:
                begun.append((move.state, move.alert))
            else:
                out += self._pass(move)
        fresh: dict[str, tuple[AlertState, dict[str, Any]]] = {}
        joined: dict[str, list[tuple[AlertState, dict[str, Any]]]] = {}
        for state, alert in sorted(begun, key=lambda one: -one[1]["lost_conversions"]):
            lead = self._lead(state, [member for members in joined.values() for member, _ in members])
            self._firing[state.key] = state
            if lead is None:
                fresh[state.alert_id] = state, alert
                self._messages[state.alert_id] = alert
            else:
                joined.setdefault(lead, []).append((state, alert))
                self._incident_of[state.alert_id] = lead
        for lead, members in joined.items():
            out += self._widen(lead, members, is_new=lead in fresh)
        out += [Transition(state, None if state.alert_id in joined else alert) for state, alert in fresh.values()]
        return out

    def renotify(self, message: dict[str, Any], reason: Reason) -> Transition | None:
        """Publish the last message of an incident of several once more; None if there is none that fires."""
        incident = self._incidents.get(message["alert_id"])
        if incident is None or incident.state is not State.FIRING:
            return None
        return self._message(incident, {**message, "reason": str(reason)})

    def _lead(self, state: AlertState, joining: list[AlertState]) -> str | None:
        """The alert_id of the incident that a series that begins to fire belongs to.

        One that was part of an incident which others keep open belongs to it again, however long ago that was: a second
        alert about the same series must not fire beside the first.
        """
        for incident in self._incidents.values():
            if incident.state is State.FIRING and _had(incident, state):
                return incident.alert_id
        for other in sorted(self._firing.values(), key=lambda one: (one.started_at, one.key)):
            lead = self._incident_of.get(other.alert_id, other.alert_id)
            together = [
                one for one in [*self._firing.values(), *joining] if self._incident_of.get(one.alert_id) == lead
            ]
            if (
                other.rule == state.rule
                and state.step not in {one.step for one in (other, *together)}
                and abs(state.started_at - other.started_at) <= NEAR_WINDOWS * self._window_ms
                and _compatible(other.dimensions, state.dimensions)
            ):
                return lead
        return None

    def _widen(self, lead: str, joined: list[tuple[AlertState, dict[str, Any]]], *, is_new: bool) -> list[Transition]:
        """Let series join an incident: one message, whatever their number."""
        incident = self._incidents.get(lead)
        if incident is None:
            message = self._messages.pop(lead, None) or self._last_message(lead)
            if message is None:  # its message was deleted by hand; the others are published on their own
                return [Transition(state, alert) for state, alert in joined]
            first = -1 if is_new else message["sequence"]
            payload = {"members": {lead: _member(message)}, "message": message}
            funnel = message["funnel"]
            incident = AlertState(INCIDENT, funnel, lead, {}, State.FIRING, lead, first, payload=payload)
        members = {**incident.payload["members"], **{state.alert_id: _member(alert) for state, alert in joined}}
        incident = incident.but(payload={**incident.payload, "members": members})
        alert = incident.payload["message"]
        if not is_new:
            newest = joined[-1][1]
            alert = {**alert, **_window(newest), "state": "firing", "reason": str(Reason.WIDENED)}
        return [*(Transition(state) for state, _ in joined), self._message(incident, alert)]

    def _pass(self, move: Transition) -> list[Transition]:
        """The message about a series that fires already, is over, or does not fire yet."""
        state = move.state
        over = state.state not in NOTIFIED
        if over:
            self._firing.pop(state.key, None)
        elif not state.rule.startswith("@"):
            self._firing[state.key] = state
        lead = self._incident_of.get(state.alert_id)
        if lead is None:
            if over:
                self._messages.pop(state.alert_id, None)
            elif move.alert:
                self._messages[state.alert_id] = move.alert
            return [move]
        incident = self._incidents[lead]
        open_ = incident.state is State.FIRING
        leads = state.alert_id == lead
        alert = {**(move.alert or {})} if leads else {}
        left = any(self._incident_of.get(one.alert_id) == lead for one in self._firing.values())
        if open_ and over and not left:
            incident = incident.but(state=State.RESOLVED)
            alert = {**incident.payload["message"], **alert, **_window(move.alert or {})}
            alert |= {"state": "resolved", "reason": str(state.reason)}
            return [Transition(state), self._message(incident, alert)]
        if alert and not (open_ and over):
            return [Transition(state), self._message(incident, alert)]
        return [Transition(state)]

    def _message(self, incident: AlertState, alert: dict[str, Any]) -> Transition:
        """Publish a message of an incident: with its id, the next sequence, and all that it has reached."""
        incident = incident.but(sequence=incident.sequence + 1)
        members = incident.payload["members"].values()
        also = "; ".join(
            f"{legible(member['step'])} {member['rate']:.1%} where {member['expected_rate']:.1%} is expected"
            for member in members
            if member["step"] != alert["step"]
        )
        alert = {
            **alert,
            "alert_id": incident.alert_id,
            "sequence": incident.sequence,
            "steps": sorted({member["step"] for member in members}),
            "series": [{"step": member["step"], "dimensions": member["dimensions"]} for member in members],
            "annotations": {**alert["annotations"], "also_at": also},
        }
        incident = incident.but(payload={**incident.payload, "message": alert})
        self._keep(incident)
        return Transition(incident, alert)

    def _keep(self, incident: AlertState) -> None:
        """Remember an incident and whom it is about."""
        self._incidents[incident.alert_id] = incident
        self._incident_of |= dict.fromkeys(incident.payload["members"], incident.alert_id)


def _had(incident: AlertState, state: AlertState) -> bool:
    """Whether the series of a state has been part of an incident."""
    return incident.payload["message"]["rule"] == state.rule and any(
        (member["step"], member["dimensions"]) == (state.step, state.dimensions)
        for member in incident.payload["members"].values()
    )


def _compatible(one: dict[str, str], other: dict[str, str]) -> bool:
    """Whether one scope lies within the other."""
    return one.items() <= other.items() or other.items() <= one.items()


def _member(alert: dict[str, Any]) -> dict[str, Any]:
    """The fields of an incident about one of its series."""
    return {name: alert[name] for name in ("step", "dimensions", "rate", "expected_rate")}


def _window(alert: dict[str, Any]) -> dict[str, Any]:
    """The window of a message, if there is one."""
    return {name: alert[name] for name in ("window_start", "window_end") if name in alert}
