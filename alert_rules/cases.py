"""Tests of alert rules, like promtool's unit tests: input series and the alerts that they must raise."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from funnelwatch.alert_rules.loader import RuleFileError
from funnelwatch.alert_rules.model import Duration, Severity  # noqa: TC001 - pydantic looks at them
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS, check_dimension_name
from funnelwatch.schemas.file_errors import NOT_BLANK, FilePart
from funnelwatch.schemas.plain_values import Number, Text, Whole, some
from funnelwatch.schemas.yaml_files import Document

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NUMBER = r"\d+(?:\.\d+)?"
PART = re.compile(
    rf"(?P<absent>_)(?:x(?P<gap>\d{{1,9}}))?|(?P<first>{NUMBER})(?:(?P<step>[+-]{NUMBER})?x(?P<more>\d{{1,9}}))?",
    re.ASCII,
)
MOST = 100_000
LARGEST = 1e12


def expand(text: object) -> tuple[float | None, ...]:
    """Values of consecutive windows in the notation of promtool's unit tests; None where one is absent.

    ``a`` is one value, ``_`` an absent one. ``axn`` is a and n more of it; ``a+bxn`` and ``a-bxn`` are a and n more
    that grow or shrink by b each; ``_xn`` is n absent ones. Spaces separate values: ``200x4 200-50x2 _x3 0``.

    Raises:
        ValueError: the text is not in this notation.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError(f"{text!r} is not a list of values")  # noqa: TRY004 - pydantic turns ValueErrors into its own
    values: list[float | None] = []
    for part in str(text).split():
        match = PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is not a value")
        if len(values) + int(match["gap"] or match["more"] or 0) >= MOST:
            raise ValueError(f"{part!r}: more than {MOST:,} values")
        if match["absent"]:
            values += [None] * int(match["gap"] or 1)
        else:
            first, step = float(match["first"]), float(match["step"] or 0)
            values += [first + step * number for number in range(int(match["more"] or 0) + 1)]
    if any(value is not None and value > LARGEST for value in values):
        raise ValueError(f"a value is above {LARGEST:,.0f}")
    if any(value is not None and value < 0 for value in values):
        raise ValueError("a value is below 0")
    return tuple(values)


Values = Annotated[tuple[float | None, ...], BeforeValidator(expand)]
VALUES = "values of consecutive windows, such as 200x30, 200-20x5 or _x3"


def unrounded(value: object) -> object:
    """A whole number as its text. YAML drops digits of other numbers (1.10 becomes 1.1), so they are rejected.

    Raises:
        ValueError: the value is a number that is not whole.
    """
    if isinstance(value, float):
        raise ValueError(f"{value} is a number to YAML; a text needs quotes")  # noqa: TRY004 - pydantic turns ValueErrors into its own
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Given = Annotated[Text, BeforeValidator(unrounded)]
Step = Annotated[Given, Field(description="the name of a step")]


def no_alerts(value: object) -> object:
    """``none`` is an empty list."""
    return () if value == "none" else value


class HistoryPart(FilePart):
    """The history before the first window: the same every day."""

    days: Number = Field(21, gt=0, le=28, description="a number of days up to 28, such as 21")
    impressions: Number = Field(200, ge=0, description="impressions of a window, on the mean, such as 200")
    rate: Number = Field(0.8, ge=0, le=1, description="successes per impression, from 0 to 1, such as 0.8")
    daily: Number = Field(0, ge=0, le=1, description="how far the impressions rise and fall in a day, such as 0.5")
    overdispersion: Number = Field(0, ge=0, lt=1, description="of the rate, such as 0.003; needs a seed")
    seed: Whole | None = Field(
        None, ge=0, description="a whole number from 0: counts are drawn at random from it, instead of even"
    )

    @model_validator(mode="after")
    def _drawn_by_chance(self) -> HistoryPart:
        if self.overdispersion and self.seed is None:
            raise ValueError("overdispersion: has no effect without a seed, from which the counts are drawn")
        return self


def further(given: dict[str, str]) -> dict[str, str]:
    """Values of dimensions that have no field of their own.

    Raises:
        ValueError: a name is not that of such a dimension.
    """
    for name in given:
        if check_dimension_name(name) in DIMENSION_FIELDS:
            raise ValueError(f"{name}: has a field of its own; right would be {name}, beside step")
    return given


Further = Annotated[dict[str, Given], AfterValidator(further)]
FURTHER = "a map of further dimensions such as {country: DE}"


class NamedPart(FilePart):
    """The names of a series."""

    step: Step
    os: Given = Field("", description="an os")
    browser: Given = Field("", description="a browser")
    app_version: Given = Field("", description="an app version")
    dimensions: Further = Field({}, description=FURTHER)

    @property
    def values(self) -> dict[str, str]:
        """The value of each dimension."""
        return {**{name: getattr(self, name) for name in DIMENSION_FIELDS}, **self.dimensions}


class SeriesPart(NamedPart):
    """One input series."""

    impressions: Values = Field((), description=VALUES)
    successes: Values | None = Field(None, description=VALUES)
    rate: Values | None = Field(None, description=f"{VALUES} from 0 to 1; or successes")
    sessions: Values | None = Field(None, description=f"{VALUES}; by default one for each impression")
    session_successes: Values | None = Field(None, description=f"{VALUES}; by default one for each success")
    history: HistoryPart | None = Field(None, description="a map such as {days: 21, impressions: 200, rate: 0.8}")

    @model_validator(mode="after")
    def _one_of_two(self) -> SeriesPart:
        if self.impressions and (self.successes is None) == (self.rate is None):
            raise ValueError("needs either successes or rate, to its impressions")
        given = "rate" if self.successes is None else "successes"
        values = self.rate if self.successes is None else self.successes
        if not self.impressions and values is not None:
            raise ValueError(f"{given}: needs impressions")
        if values is not None and len(values) != len(self.impressions):
            raise ValueError(
                f"{given}: has {len(values)} values where impressions has {len(self.impressions)}; "
                f"one for each window, with _ where there is none"
            )
        self._check_sessions()
        if self.rate is not None and any(value is not None and value > 1 for value in self.rate):
            raise ValueError("rate: a value is above 1")
        return self

    def _check_sessions(self) -> None:
        """Raise a ValueError where sessions do not fit the windows, or fewer saw the step than completed it."""
        if (self.sessions is None) != (self.session_successes is None):
            absent = "sessions" if self.sessions is None else "session_successes"
            raise ValueError(f"{absent}: is missing; sessions and session_successes go together")
        if self.sessions is None or self.session_successes is None:
            return
        for name, values in (("sessions", self.sessions), ("session_successes", self.session_successes)):
            if len(values) != len(self.impressions):
                raise ValueError(f"{name}: has {len(values)} values where impressions has {len(self.impressions)}")
        if any((made or 0) > (saw or 0) for saw, made in zip(self.sessions, self.session_successes, strict=True)):
            raise ValueError("session_successes: a value is above that of sessions")


class EventPart(NamedPart):
    """Identical raw events."""

    at: Duration = Field(ge=0, description="a duration since the first window, such as 90s")
    phase: Literal["IMPRESSION", "POST_VERIFICATION"] = Field(description="IMPRESSION or POST_VERIFICATION")
    status: Literal["SUCCESS", "FAILURE"] | None = Field(None, description="SUCCESS or FAILURE, of a POST_VERIFICATION")
    duration: Duration = Field(0, ge=0, description="a duration since the impression, such as 20s")
    times: Whole = Field(1, ge=1, description="a whole number from 1")

    @model_validator(mode="after")
    def _status_of_a_verification(self) -> EventPart:
        if (self.phase == "POST_VERIFICATION") != (self.status is not None):
            raise ValueError("status: a POST_VERIFICATION has one, an IMPRESSION has none")
        if self.duration and self.phase == "IMPRESSION":
            raise ValueError("duration: an IMPRESSION has none")
        return self


class AlertPart(FilePart):
    """One expected alert. A field that is left out matches any value; a dimension that is left out must be absent."""

    alert: Given = Field(description="the name of a rule")
    step: Step
    os: Given | None = Field(None, description="an os")
    browser: Given | None = Field(None, description="a browser")
    app_version: Given | None = Field(None, description="an app version")
    dimensions: Further = Field({}, description=FURTHER)
    state: Literal["pending", "firing", "resolved", "no_data"] = Field(
        "firing", description="pending, firing, resolved or no_data"
    )
    severity: Severity | None = Field(None, description="info, warning or critical")
    reason: Given | None = Field(None, description="a reason, such as FIRST_DROP")
    labels: Annotated[dict[str, str], AfterValidator(some)] | None = Field(None, description="a map of names to texts")

    @property
    def values(self) -> dict[str, str]:
        """The value of each dimension that it names."""
        own = {name: getattr(self, name) for name in DIMENSION_FIELDS if getattr(self, name) is not None}
        return {**own, **self.dimensions}


class ExpectPart(FilePart):
    """The alerts at one time."""

    at: Duration = Field(ge=0, description="a duration since the start of the first window, such as 12m")
    alerts: Annotated[tuple[AlertPart, ...], BeforeValidator(no_alerts)] = Field(
        description="none, or a list of alerts such as {alert: ConversionDrop, step: VERIFY_SMS_CODE, state: firing}"
    )

    @model_validator(mode="after")
    def _each_once(self) -> ExpectPart:
        about = [(one.alert, one.step, one.values) for one in self.alerts]
        repeated = next((alert for number, alert in enumerate(about) if alert in about[:number]), None)
        if repeated is not None:
            raise ValueError(f"alerts: {repeated[0]} of {repeated[1]} appears twice for the same series")
        return self


def iso_time(value: object) -> object:
    """A time, which YAML has parsed, as text."""
    return value.isoformat() if hasattr(value, "isoformat") else value


class CasePart(FilePart):
    """One test."""

    name: str = Field(pattern=NOT_BLANK, description="a sentence that says what must happen")
    funnel: Given = Field("sign_up", description="the name of a funnel")
    start: Annotated[str, BeforeValidator(iso_time)] = Field(
        "2026-01-05T12:00:00Z", description="the start of the first window, such as 2026-01-05T12:00:00Z"
    )
    history: HistoryPart | None = Field(None, description="a map such as {days: 21, impressions: 200, rate: 0.8}")
    series: Annotated[tuple[SeriesPart, ...], AfterValidator(some)] = Field(
        (), description="a list of series such as {step: A, impressions: 200x30, rate: 0.8x30}"
    )
    events: Annotated[tuple[EventPart, ...], AfterValidator(some)] = Field(
        (), description="a list of events such as {at: 90s, step: A, phase: IMPRESSION}"
    )
    expect: tuple[ExpectPart, ...] = Field(min_length=1, description="a list such as {at: 12m, alerts: none}")

    @model_validator(mode="after")
    def _in_order(self) -> CasePart:
        times = [one.at for one in self.expect]
        if times != sorted(set(times)):
            raise ValueError("expect: the times must grow from one to the next")
        return self


class CaseFile(FilePart):
    """One file."""

    rules: Given | None = Field(None, description="a rule file or folder, by its path from this file")
    window: Duration = Field(60_000, ge=1000, le=86_400_000, description="a duration from 1s to 1d, such as 1m")
    tests: tuple[CasePart, ...] = Field(min_length=1, description="a list of tests")


@dataclass(frozen=True, slots=True)
class Cases:
    """The tests of a file."""

    path: Path
    content: CaseFile
    lines: tuple[int, ...]
    """The line of each test."""


def load_cases(path: Path) -> Cases:
    """The tests of a file.

    Raises:
        RuleFileError: ``file:line: field: what is wrong; right would be …``.
    """
    document = Document.read(path, RuleFileError)
    content = document.validated(CaseFile)
    for loc, what, right in _contradictions(content):
        raise document.rejected(loc, what, right)
    return Cases(path, content, tuple(document.line(["tests", number]) for number in range(len(content.tests))))


def _contradictions(content: CaseFile) -> Iterator[tuple[list[str | int], str, str]]:
    """Contradictions: the place, what is wrong, and what would be right."""
    names: list[str] = []
    for number, test in enumerate(content.tests):
        loc: list[str | int] = ["tests", number]
        if test.name in names:
            yield [*loc, "name"], f"{test.name!r} appears twice", "a name of its own"
        names.append(test.name)
        for place, expected in enumerate(test.expect):
            if expected.at % content.window:
                right = f"a multiple of {content.window / 1000:g} s"
                yield [*loc, "expect", place, "at"], "no window ends then", right
        for place, event in enumerate(test.events):
            if event.at >= test.expect[-1].at:
                right = "a time before, or an expectation after it"
                yield [*loc, "events", place, "at"], "is after the last expectation", right
        yield from _unequal(test, loc)


def _unequal(test: CasePart, loc: list[str | int]) -> Iterator[tuple[list[str | int], str, str]]:
    """Series of a test that appear twice, or have fewer windows than others."""
    windows = max((len(one.impressions) for one in test.series), default=0)
    seen = []
    for place, one in enumerate(test.series):
        about = (one.step, one.values)
        if about in seen:
            yield [*loc, "series", place], "appears twice", "one series for each step and dimensions"
        seen.append(about)
        if one.impressions and len(one.impressions) != windows:
            what = f"has {len(one.impressions)} values where another series of the test has {windows}"
            yield [*loc, "series", place, "impressions"], what, "one for each window, with _ where there is none"
