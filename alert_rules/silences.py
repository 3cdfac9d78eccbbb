"""Silences mute the notification of alerts, not the alerts; pure.

Where active silences cover every series of a firing message, the message is still evaluated, stored and published,
with ``silenced_by`` set, and notifiers skip it. "resolved" is never muted. An alert that still fires when one of its
series is no longer covered is published again, once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.dimensions import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Series = tuple[str, "Mapping[str, str]"]
"""A step and the values of its dimensions."""

MATCHERS = ("rule", "funnel", "step")
"""The matchers of a silence beside those of dimensions."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Mutes the series that fit all of its matchers during ``[starts_at, ends_at)`` (ms, wall clock); None fits all."""

    id: int
    starts_at: int
    ends_at: int
    rule: str | None = None
    funnel: str | None = None
    step: str | None = None
    dimensions: Mapping[str, str] = field(default_factory=dict)
    comment: str = ""
    created_by: str = ""

    @property
    def matchers(self) -> dict[str, str]:
        """The matchers that are set, by name, in the order of display."""
        own = {name: value for name in MATCHERS if (value := getattr(self, name)) is not None}
        return {**own, **{name: self.dimensions[name] for name in in_order(self.dimensions)}}

    def state(self, now: int) -> str:
        """Pending, active or expired."""
        if now < self.starts_at:
            return "pending"
        return "active" if now < self.ends_at else "expired"

    def covers(self, rule: str, funnel: str, series: Series) -> bool:
        """Whether the silence covers a series of an alert.

        A silence for one os does not cover a series of all os together.
        """
        step, dimensions = series
        # Apart, because a dimension may be called like a matcher: rule.
        return (
            self.rule in {None, rule}
            and self.funnel in {None, funnel}
            and self.step in {None, step}
            and all(dimensions.get(name) == value for name, value in self.dimensions.items())
        )


def series_of(alert: Mapping[str, Any]) -> list[Series]:
    """Every series that an alert is about: those of its incident, or its own."""
    if members := alert.get("series"):
        return [(member["step"], member["dimensions"]) for member in members]
    return [(step, alert["dimensions"]) for step in alert.get("steps") or [alert["step"]]]


def silences_of(alert: Mapping[str, Any], silences: Iterable[Silence], now: int) -> list[Silence]:
    """The silences that together mute this message now, in order of their ends; none: it is not muted.

    It is muted when active silences cover each of its series: a single one if possible, and the longest of several.
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
    """The first to end of the silences that mute this message now; None: it is not muted."""
    return next(iter(silences_of(alert, silences, now)), None)


def muted(alert: Mapping[str, Any], silences: Iterable[Silence], now: int) -> dict[str, Any]:
    """The message to publish, with the ids of the silences that mute it."""
    return {**alert, "silenced_by": ",".join(str(silence.id) for silence in silences_of(alert, silences, now))}
