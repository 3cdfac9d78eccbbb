"""Tests of alert rules as people write them: series in, expected alerts out, in the manner of promtool's unit tests."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from funnelwatch.alert_rules.loader import RuleFileError
from funnelwatch.alert_rules.model import DIMENSIONS, Duration, Severity
from funnelwatch.alert_rules.notation import expand
from funnelwatch.schemas.plain_values import Number, Text, Whole, in_words, some
from funnelwatch.schemas.yaml_files import YamlFileError, line_of, parse_yaml, place_of, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Values = Annotated[tuple[float | None, ...], BeforeValidator(expand)]
VALUES = "values of consecutive windows, such as 200x30, 200-20x5 or _x3"


def unrounded(value: object) -> object:
    """A whole number as its text; another number would lose digits: 1.10 is 1.1 to YAML.

    Raises:
        ValueError: it is another number.
    """
    if isinstance(value, float):
        raise ValueError(f"{value} is a number to YAML; a text stands in quotes")  # noqa: TRY004 - pydantic's own error
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Given = Annotated[Text, BeforeValidator(unrounded)]
Step = Annotated[Given, Field(description="the name of a step")]


def no_alerts(value: object) -> object:
    """``none`` is an empty list."""
    return () if value == "none" else value


class Part(BaseModel):
    """Strict, and with descriptions for its faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class HistoryPart(Part):
    """What was before the first window: the same every day."""

    days: Number = Field(21, gt=0, le=28, description="a number of days up to 28, such as 21")
    impressions: Number = Field(200, ge=0, description="impressions of a window, on the mean, such as 200")
    rate: Number = Field(0.8, ge=0, le=1, description="successes per impression, from 0 to 1, such as 0.8")
    daily: Number = Field(0, ge=0, le=1, description="how far the impressions rise and fall in a day, such as 0.5")
    overdispersion: Number = Field(0, ge=0, lt=1, description="of the rate, such as 0.003; needs a seed")
    seed: Whole | None = Field(
        None, ge=0, description="a whole number from 0: counts are drawn by chance from it, not even"
    )

    @model_validator(mode="after")
    def _drawn_by_chance(self) -> HistoryPart:
        if self.overdispersion and self.seed is None:
            raise ValueError("overdispersion: does nothing without a seed, by which the counts are drawn")
        return self


class SeriesPart(Part):
    """One input series."""

    step: Step
    os: Given = Field("", description="an os")
    browser: Given = Field("", description="a browser")
    app_version: Given = Field("", description="an app version")
    impressions: Values = Field((), description=VALUES)
    successes: Values | None = Field(None, description=VALUES)
    rate: Values | None = Field(None, description=f"{VALUES} from 0 to 1; or successes")
    history: HistoryPart | None = Field(None, description="a map such as {days: 21, impressions: 200, rate: 0.8}")

    @model_validator(mode="after")
    def _one_of_two(self) -> SeriesPart:
        if self.impressions and (self.successes is None) == (self.rate is None):
            raise ValueError("needs either successes or rate, to its impressions")
        given = "rate" if self.successes is None else "successes"
        values = self.rate if self.successes is None else self.successes
        if not self.impressions and values is not None:
            raise ValueError(f"{given}: stands without impressions")
        if values is not None and len(values) != len(self.impressions):
            raise ValueError(
                f"{given}: has {len(values)} values where impressions has {len(self.impressions)}; "
                f"one for each window, with _ where there is none"
            )
        if self.rate is not None and any(value is not None and value > 1 for value in self.rate):
            raise ValueError("rate: a value is above 1")
        return self


class EventPart(Part):
    """Raw events, all alike."""

    at: Duration = Field(ge=0, description="a duration since the first window, such as 90s")
    step: Step
    os: Given = Field("", description="an os")
    browser: Given = Field("", description="a browser")
    app_version: Given = Field("", description="an app version")
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


class AlertPart(Part):
    """One expected alert; what is left out may be anything, except that a dimension left out is not there."""

    alert: Given = Field(description="the name of a rule")
    step: Step
    os: Given | None = Field(None, description="an os")
    browser: Given | None = Field(None, description="a browser")
    app_version: Given | None = Field(None, description="an app version")
    state: Literal["pending", "firing", "resolved", "no_data"] = Field(
        "firing", description="pending, firing, resolved or no_data"
    )
    severity: Severity | None = Field(None, description="info, warning or critical")
    reason: Given | None = Field(None, description="a reason, such as FIRST_DROP")
    labels: Annotated[dict[str, str], AfterValidator(some)] | None = Field(None, description="a map of names to texts")

    @property
    def dimensions(self) -> dict[str, str]:
        """The values that it names."""
        return {name: getattr(self, name) for name in DIMENSIONS if getattr(self, name) is not None}


class ExpectPart(Part):
    """The alerts at one time."""

    at: Duration = Field(ge=0, description="a duration since the start of the first window, such as 12m")
    alerts: Annotated[tuple[AlertPart, ...], BeforeValidator(no_alerts)] = Field(
        description="none, or a list of alerts such as {alert: ConversionDrop, step: VERIFY_SMS_CODE, state: firing}"
    )

    @model_validator(mode="after")
    def _each_once(self) -> ExpectPart:
        about = [(one.alert, one.step, one.dimensions) for one in self.alerts]
        twice = next((alert for number, alert in enumerate(about) if alert in about[:number]), None)
        if twice is not None:
            raise ValueError(f"alerts: {twice[0]} of {twice[1]} stands twice for the same series")
        return self


def iso_time(value: object) -> object:
    """YAML reads a time as one; it is wanted as text."""
    return value.isoformat() if hasattr(value, "isoformat") else value


class CasePart(Part):
    """One test."""

    name: str = Field(pattern=r"\S", description="a sentence that says what is to be")
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


class CaseFile(Part):
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
        RuleFileError: ``file:line: field: what is wrong; what would be right``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RuleFileError(f"{path}: cannot be read: {error}") from error
    try:
        document = parse_yaml(text, str(path))
    except YamlFileError as error:
        raise RuleFileError(str(error)) from None
    if not isinstance(document, dict):
        raise RuleFileError(f"{path}:1: is no map; right would be tests: [{{name: ..., series: ..., expect: ...}}]")
    try:
        content = CaseFile.model_validate(plain(document))
    except ValidationError as error:
        # A field that nobody knows is most often the misspelt one that is missing.
        fault = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        loc = tuple(part for part in fault["loc"] if part != "[key]")
        line, place = line_of(document, loc), place_of(loc) or "tests"
        raise RuleFileError(f"{path}:{line}: {place}: {_told(fault, loc)}") from None
    for at, what, right in _contradictions(content):
        raise RuleFileError(f"{path}:{line_of(document, at)}: {place_of(at)}: {what}; right would be {right}")
    return Cases(path, content, tuple(line_of(document, ["tests", number]) for number in range(len(content.tests))))


def _contradictions(content: CaseFile) -> Iterator[tuple[list[str | int], str, str]]:
    """What does not go together: where, what is wrong, and what would be right."""
    names: list[str] = []
    for number, test in enumerate(content.tests):
        loc: list[str | int] = ["tests", number]
        if test.name in names:
            yield [*loc, "name"], f"{test.name!r} stands twice", "a name of its own"
        names.append(test.name)
        for place, expected in enumerate(test.expect):
            if expected.at % content.window:
                right = f"a multiple of {content.window / 1000:g} s"
                yield [*loc, "expect", place, "at"], "no window ends then", right
        for place, event in enumerate(test.events):
            if event.at >= test.expect[-1].at:
                right = "a time before, or an expectation after it"
                yield [*loc, "events", place, "at"], "is after the last time that something is expected at", right
        yield from _unequal(test, loc)


def _unequal(test: CasePart, loc: list[str | int]) -> Iterator[tuple[list[str | int], str, str]]:
    """Series of a test that stand twice, or have fewer windows than others."""
    windows = max((len(one.impressions) for one in test.series), default=0)
    seen = []
    for place, one in enumerate(test.series):
        about = (one.step, one.os, one.browser, one.app_version)
        if about in seen:
            yield [*loc, "series", place], "stands twice", "one series for each step, os, browser and app version"
        seen.append(about)
        if one.impressions and len(one.impressions) != windows:
            what = f"has {len(one.impressions)} values where another series of the test has {windows}"
            yield [*loc, "series", place, "impressions"], what, "one for each window, with _ where there is none"


def _told(fault: Any, loc: Sequence[str | int]) -> str:
    """What is wrong and what would be right."""
    model, description = _described(loc[:-1] if fault["type"] == "extra_forbidden" else loc)
    if fault["type"] == "extra_forbidden":
        names = sorted(model.model_fields)
        near = difflib.get_close_matches(str(loc[-1]), names, n=1)
        return f"is not a known field; right would be {near[0] if near else 'one of ' + ', '.join(names)}"
    if fault["type"] == "missing":
        return f"is missing; right would be {description}"
    message = in_words(fault["msg"])
    return f"{message[0].lower()}{message[1:]}" + (f"; right would be {description}" if description else "")


def _described(loc: Sequence[str | int]) -> tuple[type[BaseModel], str]:
    """The model at a place, and what would be right there."""
    model: type[BaseModel] = CaseFile
    description = ""
    for part in loc:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        field = model.model_fields[part]
        description = field.description or ""
        inner = [field.annotation, *get_args(field.annotation)]
        inner += [one for part in get_args(field.annotation) for one in get_args(part)]
        model = next((one for one in inner if isinstance(one, type) and issubclass(one, BaseModel)), model)
    return model, description
