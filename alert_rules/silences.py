"""Silences: which alerts are not to be notified now; pure.

A silence mutes the notification, not the alert: a firing message of which active silences cover every series is judged,
kept and published as ever, with ``silenced_by`` set, and whoever notifies people leaves it. "resolved" is never muted.
An alert that still fires when one of its series is no longer covered is published again then, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Series = tuple[str, "Mapping[str, str]"]
"""A step and the values of the dimensions that it is judged by."""

MATCHERS = ("rule", "funnel", "step", "os", "browser", "app_version")
"""What a silence may name, in the order in which people say it."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Mutes, during ``[starts_at, ends_at)`` (ms, wall clock), what all of its matchers fit; None fits anything."""

    id: int
    starts_at: int
    ends_at: int
    rule: str | None = None
    funnel: str | None = None
    step: str | None = None
    os: str | None = None
    browser: str | None = None
    app_version: str | None = None
    comment: str = ""
    created_by: str = ""

    @property
    def matchers(self) -> dict[str, str]:
        """What it names, by name."""
        return {name: value for name in MATCHERS if (value := getattr(self, name)) is not None}

    def state(self, now: int) -> str:
        """Pending, active or expired."""
        if now < self.starts_at:
            return "pending"
        return "active" if now < self.ends_at else "expired"

    def covers(self, rule: str, funnel: str, series: Series) -> bool:
        """Whether a series of an alert lies within what is silenced.

        A series of every os together is not covered by a silence for one os: it is more than was silenced.
        """
        about = {**series[1], "rule": rule, "funnel": funnel, "step": series[0]}
        return all(about.get(name) == value for name, value in self.matchers.items())


def series_of(alert: Mapping[str, Any]) -> list[Series]:
    """Every series that an alert is about: those of its incident, or its own."""
    if members := alert.get("series"):
        return [(member["step"], member["dimensions"]) for member in members]
    return [(step, alert["dimensions"]) for step in alert.get("steps") or [alert["step"]]]


def silences_of(alert: Mapping[str, Any], silences: Iterable[Silence], now: int) -> list[Silence]:
    """The silences that together mute this message now, in order of their ends; none: it is not muted.

    It is muted when each of its series is covered by some active silence: one for all of them if there is one, of
    several the one that lasts longest.
    """
    if alert["state"] != "firing":
        return []
    active = sorted(
        (silence for silence in silences if silence.state(now) == "active"), key=lambda one: (-one.ends_at, one.id)
    )
    rule, funnel, series = alert["rule"], alert["funnel"], series_of(alert)
    for silence in active:
        if all(silence.covers(rule, funnel, one) for one in series):
            return [silence]
    found = [next((silence for silence in active if silence.covers(rule, funnel, one)), None) for one in series]
    chosen = {silence.id: silence for silence in found if silence is not None}
    return [] if None in found else sorted(chosen.values(), key=lambda one: (one.ends_at, one.id))


def silence_of(alert: Mapping[str, Any], silences: Iterable[Silence], now: int) -> Silence | None:
    """Of the silences that mute this message now the one that ends first; None: it is not muted."""
    return next(iter(silences_of(alert, silences, now)), None)


def muted(alert: Mapping[str, Any], silences: Iterable[Silence], now: int) -> dict[str, Any]:
    """The message as it is to be published: with the numbers of the silences that mute it, if any do."""
    return {**alert, "silenced_by": ",".join(str(silence.id) for silence in silences_of(alert, silences, now))}
