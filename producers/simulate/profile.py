"""Profiles of simulated traffic: steps, platforms, seasons, incidents."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from funnelwatch.schemas.dimensions import DIMENSION_FIELDS, check_dimension_name

DAY_MIN = 1440
WEEK_MIN = 7 * DAY_MIN
MONDAY_MIN = 4 * DAY_MIN
"""Minutes from the epoch, a Thursday, to the first Monday."""


@dataclass(frozen=True, slots=True)
class StepProfile:
    """The behaviour of people at one step.

    Attributes:
        name: the step.
        conversion: share of people shown the step who complete it, 0 to 1.
        seconds: median time from the impression to a verification, seconds.
        wrong_first: share of the people who complete it that fails once before.
        failed: share of the other people that leaves after a failed verification; the rest just leaves.
    """

    name: str
    conversion: float
    seconds: float
    wrong_first: float
    failed: float


@dataclass(frozen=True, slots=True)
class Platform:
    """One kind of client.

    Attributes:
        os: operating system.
        browser: browser, empty in a native app.
        app_versions: versions and their shares, which add up to 1.
        share: share of the sessions; all shares add up to 1.
        ease: factor on the odds of a conversion.
    """

    os: str
    browser: str
    app_versions: tuple[tuple[str, float], ...]
    share: float
    ease: float = 1.0


@dataclass(frozen=True, slots=True)
class Dimension:
    """A further dimension of every session, independent of its platform.

    Attributes:
        name: its name, a key of the events' contexts.
        values: values and their shares, which add up to 1.
    """

    name: str
    values: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        """Reject an invalid dimension.

        Raises:
            ValueError: the message names what is wrong.
        """
        check_dimension_name(self.name)
        if self.name in DIMENSION_FIELDS:
            raise ValueError(f"{self.name}: is a field of every event already; right would be another name")
        names = [value for value, _ in self.values]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{self.name}: the value {min(twice)!r} is there twice")
        shares = [share for _, share in self.values]
        if not shares or min(shares) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
            raise ValueError(f"{self.name}: the shares {shares} are not from 0 to 1 with the sum 1")

    @classmethod
    def parse(cls, text: str) -> Dimension:
        """A dimension from ``country=DE:0.5,AT,CH``; values without a share divide the rest equally.

        Raises:
            ValueError: it is none; the message says what would be right.
        """
        name, equals, values = text.partition("=")
        try:
            return cls(name.strip(), _parse_values(values) if equals else ())
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}; right would be like country=DE:0.5,AT:0.3,CH:0.2") from None


def _parse_values(text: str) -> tuple[tuple[str, float], ...]:
    parts = [one.rpartition(":") for one in text.split(",")]
    values = [(value if colon else last).strip() for value, colon, last in parts]
    shares = [float(last) if colon else None for _, colon, last in parts]
    given = [share for share in shares if share is not None]
    rest = round((1 - sum(given)) / max(1, len(shares) - len(given)), 12)
    return tuple((value, rest if share is None else share) for value, share in zip(values, shares, strict=True))


@dataclass(frozen=True, slots=True)
class Profile:
    """A funnel and its people.

    Attributes:
        funnel: name of the funnel.
        steps: in order.
        platforms: the kinds of clients.
        dimensions: further dimensions.
        rho: intra-minute correlation of outcomes, 0 to 1: conversions of one minute, step and os are beta-binomial
            with variance ``n p (1 - p) (1 + (n - 1) rho)``; 0 is binomial.
        daily: relative height of the daily season, 0 to 1; the top is at ``peak_hour`` UTC.
        peak_hour: hour of the day with the most sessions.
        weekdays: relative traffic Monday to Sunday; mean 1.
    """

    funnel: str
    steps: tuple[StepProfile, ...]
    platforms: tuple[Platform, ...]
    dimensions: tuple[Dimension, ...] = ()
    rho: float = 0.002
    daily: float = 0.6
    peak_hour: float = 19.0
    weekdays: tuple[float, ...] = (0.95, 0.95, 0.97, 1.0, 1.05, 1.08, 1.0)

    def __post_init__(self) -> None:
        """Reject dimensions of the same name.

        Raises:
            ValueError: the message names it.
        """
        names = [dimension.name for dimension in self.dimensions]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{min(twice)}: the dimension is there twice; right would be all its values in one")

    @property
    def values(self) -> dict[str, set[str]]:
        """The values of every dimension, by its name."""
        return {
            "os": {platform.os for platform in self.platforms},
            "browser": {platform.browser for platform in self.platforms},
            "app_version": {version for platform in self.platforms for version, _ in platform.app_versions},
            **{dimension.name: {value for value, _ in dimension.values} for dimension in self.dimensions},
        }

    def season(self, minute: int) -> float:
        """Traffic of a minute since the epoch, relative to the average."""
        hour = minute % DAY_MIN / 60
        day = (minute - MONDAY_MIN) % WEEK_MIN // DAY_MIN
        return self.weekdays[day] * (1 + self.daily * math.cos((hour - self.peak_hour) * math.tau / 24))


@dataclass(frozen=True, slots=True)
class Incident:
    """A period in which verifications fail.

    Attributes:
        start_ms: its start, ms since the epoch.
        end_ms: its end, exclusive.
        step: the affected step.
        loss: share of the successes that become failures, 0 to 1.
        where: values of os, browser, app_version and further dimensions that are affected; an absent one: all.
    """

    start_ms: int
    end_ms: int
    step: str
    loss: float
    where: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reject an invalid incident.

        Raises:
            ValueError: the message names what is wrong.
        """
        if not 0 <= self.loss <= 1:
            raise ValueError(f"loss: {self.loss} is not between 0 and 1")
        if self.end_ms <= self.start_ms:
            raise ValueError("the incident ends before it starts")
        for name in self.where:
            check_dimension_name(name)


IOS = (("5.2.0", 0.7), ("5.1.3", 0.25), ("4.9.1", 0.05))
ANDROID = (("5.2.1", 0.6), ("5.1.0", 0.3), ("4.9.0", 0.1))
WEB = (("", 1.0),)

SIGN_UP_PROFILE = Profile(
    funnel="sign_up",
    steps=(
        StepProfile("INPUT_PHONE_NUMBER", 0.86, 9.0, 0.06, 0.35),
        StepProfile("VERIFY_SMS_CODE", 0.78, 26.0, 0.10, 0.45),
        StepProfile("INPUT_NAME", 0.94, 7.0, 0.02, 0.20),
        StepProfile("INPUT_PASSWORD", 0.90, 13.0, 0.15, 0.40),
    ),
    platforms=(
        Platform("iOS", "", IOS, 0.40, 1.1),
        Platform("Android", "", ANDROID, 0.38),
        Platform("Desktop", "Chrome", WEB, 0.13, 0.95),
        Platform("Desktop", "Safari", WEB, 0.06, 0.95),
        Platform("Desktop", "IE", WEB, 0.03, 0.8),
    ),
)
"""The sign-up funnel of an app that also has a web page."""
