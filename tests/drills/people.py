"""The people behind the records of a drill: who reloads, skips, changes the device, leaves and returns.

Whether a record is an impression or a verification is not decided here: then every step and os would have another rate,
and the drill's rules rely on one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

BROWSERS = {"iOS": ("",), "Android": ("",), "Desktop": ("Chrome", "Safari")}
LEAVES = 0.08
"""Share of events that are the last for now: twelve events a visit."""
RETURNS = 0.03
OTHER_DEVICE = 0.06
"""Share of events that come of another device than the one before."""
NEW_DEVICE = 0.02
ELSEWHERE = 0.2
"""Share of events of a step that is not the next: earlier ones are seen again, later ones without those between."""
GONE = 10_000
"""So many who left may return."""


@dataclass(frozen=True, slots=True)
class Device:
    """The dimensions of an event."""

    os: str
    browser: str
    app_version: str
    contexts: dict[str, str]


@dataclass(slots=True)
class Person:
    """One session id, the device of its events, and how many steps are behind it."""

    session: str
    device: Device
    passed: int = 0


@dataclass(slots=True)
class People:
    """Those who are in the middle of a sign-up, and those who have left it.

    Attributes:
        chance: the drill's own.
        together: how many are in the middle of one.
        steps: how many steps there are.
    """

    chance: random.Random
    together: int
    steps: int
    _here: list[Person] = field(default_factory=list)
    _gone: deque[Person] = field(default_factory=lambda: deque(maxlen=GONE))

    def somebody(self) -> Person:
        """The one whose event is next."""
        kind = self.chance.random()
        if kind < RETURNS and self._gone:
            return self._gone[self.chance.randrange(len(self._gone))]
        if len(self._here) < self.together:
            self._here.append(Person(f"s{self.chance.getrandbits(48):x}", self._new_device()))
            return self._here[-1]
        number = self.chance.randrange(self.together)
        person = self._here[number]
        if self.chance.random() < LEAVES:
            self._here[number] = self._here[-1]
            self._here.pop()
            self._gone.append(person)
        return person

    def step(self, person: Person) -> int:
        """The step of the next event, from 0."""
        return self.chance.randrange(self.steps) if self.chance.random() < ELSEWHERE else person.passed

    def pass_step(self, person: Person) -> None:
        """Go on; after the last step, begin again."""
        person.passed = (person.passed + 1) % self.steps

    def device(self, person: Person) -> Device:
        """The device of the next event."""
        kind = self.chance.random()
        if kind < NEW_DEVICE:
            person.device = self._new_device()
        elif kind < NEW_DEVICE + OTHER_DEVICE:
            return self._new_device()
        return person.device

    def _new_device(self) -> Device:
        chance = self.chance
        os = chance.choice(tuple(BROWSERS))
        contexts = {}
        if country := chance.choice(("DE", "AT", "")):
            contexts["country"] = country
        if chance.random() < 0.5:
            contexts["plan"] = "pro"
        return Device(os, chance.choice(BROWSERS[os]), chance.choice(("1.0", "1.1")), contexts)
