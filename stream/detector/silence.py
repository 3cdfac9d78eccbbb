"""Silences: which alerts are not to be notified now; pure.

A silence mutes the notification, not the alert: a firing message that it covers is judged, kept and published as ever,
with ``silenced_by`` set, and whoever notifies people leaves it. "resolved" is never muted. What still fires when its
silence ends is said then, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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

    def covers(self, alert: Mapping[str, Any]) -> bool:
        """Whether all that the alert is about lies within what is silenced.

        An alert about every os together is not covered by a silence for one os, nor one about several steps by a
        silence for one of them: they tell of more than was silenced.
        """
        about = {**alert["dimensions"], "rule": alert["rule"], "funnel": alert["funnel"], "step": alert["step"]}
        if any(about.get(name) != value for name, value in self.matchers.items()):
            return False
        return self.step is None or set(alert.get("steps") or [self.step]) == {self.step}


def silence_of(alert: Mapping[str, Any], silences: Iterable[Silence], now: int) -> Silence | None:
    """The silence that mutes this message now: of several the one that lasts longest."""
    if alert["state"] != "firing":
        return None
    found = [silence for silence in silences if silence.state(now) == "active" and silence.covers(alert)]
    return max(found, key=lambda silence: (silence.ends_at, -silence.id), default=None)


def muted(alert: Mapping[str, Any], silences: Iterable[Silence], now: int) -> dict[str, Any]:
    """The message as it is to be published: with the number of the silence that mutes it, if any does."""
    silence = silence_of(alert, silences, now)
    return {**alert, "silenced_by": str(silence.id) if silence else ""}
