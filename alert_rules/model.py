"""Alert rules as validated values, with every default filled in.

A rule about conversion is one of three kinds. ``drop`` compares a step's conversion with its usual conversion
(``funnelwatch.stream.detector``); ``threshold`` fires below a fixed rate; ``change`` compares with an earlier time. All
of them evaluate closed windows only. A fourth kind, ``instrumentation``, is in ``funnelwatch.alert_rules.instruments``.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from funnelwatch.alert_rules.labels import check_placeholders, checked_annotations, checked_labels
from funnelwatch.schemas.dimensions import check_dimension_name, in_order
from funnelwatch.schemas.file_errors import FilePart
from funnelwatch.schemas.plain_values import Number, Text, Whole, once
from funnelwatch.schemas.times import DAY_MS, HOUR_MS, UNITS_MS, WEEK_MS

UNITS = {"ms": 1, **UNITS_MS}
DURATION = re.compile(r"(?=\d)(\d+w)?(\d+d)?(\d+h)?(\d+m(?!s))?(\d+s)?(\d+ms)?", re.ASCII)
PART = re.compile(r"(\d+)(ms|s|m|h|d|w)", re.ASCII)

LONGEST_MS = 366 * DAY_MS

Level = tuple[str, ...]

LEVELS = "a list of dimensions such as [os], or of such lists: [[], [os], [country, plan]]"


def parse_duration(value: object) -> int:
    """Milliseconds of a duration written as Prometheus does: ``90s``, ``2m``, ``1h30m``; ``0`` needs no unit.

    Each unit may appear once, larger ones first.

    Raises:
        ValueError: it is not such a duration.
    """
    if value == 0 and not isinstance(value, bool):
        return 0
    if not isinstance(value, str) or not DURATION.fullmatch(value):
        raise ValueError(f"{value!r} is not a duration")
    span = sum(int(number) * UNITS[unit] for number, unit in PART.findall(value))
    if span > LONGEST_MS:
        raise ValueError(f"{value!r} is longer than a year")
    return span


def parse_levels(value: object) -> object:
    """The levels of ``by``: ``[os]`` is one level, ``[[], [os]]`` two; ``[[]]`` is everything together.

    Raises:
        ValueError: the list is empty.
    """
    if value == []:
        raise ValueError("is empty; everything together is [[]], or no by")
    if isinstance(value, list) and all(isinstance(part, list) for part in value):
        return tuple(tuple(level) for level in value)
    return (tuple(value),) if isinstance(value, list) else value


def parse_steps(value: object) -> object:
    """The steps: ``all`` is every step, each evaluated on its own.

    Raises:
        ValueError: the list is empty, or ``all`` is one of several.
    """
    if value == "all":
        return ()
    if value == []:
        raise ValueError("is empty: the rule would evaluate nothing")
    if isinstance(value, list) and "all" in value:
        raise ValueError("all means every step, and cannot be one of several")
    return (value,) if isinstance(value, str) else value


Duration = Annotated[int, BeforeValidator(parse_duration)]


def within_history(span: int) -> int:
    """The span, ms, if the detector keeps counts for so long.

    Raises:
        ValueError: it is longer.
    """
    if span > 3 * WEEK_MS:
        raise ValueError("is longer than the three weeks that the detector keeps")
    return span


Remembered = Annotated[Duration, AfterValidator(within_history)]

Severity = Literal["info", "warning", "critical"]


def ordered_levels(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    """The levels from wide to narrow, each in the order of display.

    Raises:
        ValueError: a name is not that of a dimension, or a dimension or level is repeated.
    """
    for level in levels:
        for name in level:
            check_dimension_name(name)
        if len(set(level)) != len(level):
            raise ValueError(f"a dimension is repeated in {list(level)}")
    ordered = [in_order(level) for level in levels]
    if len(set(ordered)) != len(ordered):
        raise ValueError("a level is repeated")
    return tuple(sorted(ordered, key=len))


class NamedRule(FilePart):
    """Fields of every kind of rule."""

    model_config = ConfigDict(populate_by_name=True)

    alert: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100, description="a name of letters, digits and underscores"
    )
    funnel: Text = Field("*", description="the name of a funnel, or '*' for every funnel")
    for_ms: Duration = Field(0, ge=0, alias="for", description="a duration such as 0s or 2m")
    keep_firing_for_ms: Duration = Field(0, ge=0, alias="keep_firing_for", description="a duration such as 0s or 2m")
    resolve_without_data_ms: Duration = Field(
        HOUR_MS,
        gt=0,
        alias="resolve_without_data",
        description="a duration after which a firing alert whose series has ended resolves, such as 1h",
    )
    severity: Severity = Field("warning", description="info, warning or critical")
    labels: Annotated[dict[str, str], AfterValidator(checked_labels)] = Field(
        default_factory=dict, description="a map of names of your own to texts, such as {team: sign_up}"
    )
    annotations: Annotated[dict[str, str], AfterValidator(checked_annotations)] = Field(
        default_factory=dict, description="a text with fields such as {{ step }}"
    )

    @field_validator("alert")
    @classmethod
    def _not_the_heartbeat(cls, alert: str) -> str:
        if alert == "Watchdog":
            raise ValueError("Watchdog is the name of the alerting's own heartbeat")
        return alert

    @property
    def dimensions(self) -> frozenset[str]:
        """The dimensions in ``by``, which are fields of its alerts."""
        return frozenset()

    @model_validator(mode="after")
    def _of_its_own_dimensions(self) -> Self:
        for name in self.labels:
            if name in self.dimensions:
                raise ValueError(f"labels: {name} is a dimension of by, and the alert sets it itself")
        for field, texts in (("labels", self.labels), ("annotations", self.annotations)):
            for name, text in texts.items():
                try:
                    check_placeholders(text, self.dimensions)
                except ValueError as error:
                    raise ValueError(f"{field}: {name}: {error}") from None
        return self

    @property
    def version(self) -> str:
        """Digest of the rule as it stands, defaults filled in: the same text of rule has the same version."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


class BaseRule(NamedRule):
    """Fields of every kind of rule about conversion."""

    steps: Annotated[tuple[Text, ...], BeforeValidator(parse_steps), AfterValidator(once)] = Field(
        (), alias="step", description="all, the name of a step, or a list of names"
    )
    by: Annotated[tuple[Level, ...], BeforeValidator(parse_levels)] = Field(((),), description=LEVELS)
    basis: Literal["window", "cohort", "session"] = Field("window", description="window, cohort or session")
    maturity_ms: Duration = Field(
        120_000, ge=0, alias="maturity", description="a duration within which nearly every success has come, such as 2m"
    )
    min_impressions: Whole = Field(8, ge=1, description="a whole number from 1, such as 8")

    _ordered = field_validator("by")(ordered_levels)

    @property
    def dimensions(self) -> frozenset[str]:
        """The dimensions of all levels."""
        return frozenset(name for level in self.by for name in level)

    def covers(self, step: str) -> bool:
        """Whether the rule covers this step."""
        return not self.steps or step in self.steps


class DropRule(BaseRule):
    """Conversion has dropped below the usual one of the series at this time of the week."""

    kind: Literal["drop"] = Field("drop", description="drop, threshold or change")
    score: Number = Field(4.5, gt=0, le=100, description="a number above 0, such as 4.5 (higher: later, fewer alarms)")
    min_drop: Number = Field(0.05, ge=0, lt=1, description="a share of the expected rate from 0 to 1, such as 0.05")
    baseline: Literal["auto", "seasonal", "recent"] = Field("auto", description="auto, seasonal or recent")


class ThresholdRule(BaseRule):
    """The rate over the last period is below a fixed number."""

    kind: Literal["threshold"] = Field(description="drop, threshold or change")
    below: Number = Field(gt=0, le=1, description="a rate from 0 to 1, such as 0.6")
    over_ms: Remembered = Field(300_000, gt=0, alias="over", description="a duration up to 3w, such as 5m")


class ChangeRule(BaseRule):
    """The rate over the last period is lower, by a share, than in an earlier period."""

    kind: Literal["change"] = Field(description="drop, threshold or change")
    drop: Number = Field(gt=0, lt=1, description="a share of the earlier rate from 0 to 1, such as 0.2")
    over_ms: Remembered = Field(300_000, gt=0, alias="over", description="a duration up to 3w, such as 5m")
    offset_ms: Remembered = Field(WEEK_MS, gt=0, alias="offset", description="a duration up to 3w, such as 1w")


Rule = DropRule | ThresholdRule | ChangeRule
KINDS: dict[str, type[Rule]] = {"drop": DropRule, "threshold": ThresholdRule, "change": ChangeRule}


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of a folder, in the order of their files."""

    rules: tuple[NamedRule, ...]

    def of_funnel(self, funnel: str) -> tuple[Rule, ...]:
        """The rules about the conversion of this funnel: those that name it, and of other names those for ``*``."""
        return tuple(rule for rule in self.about(funnel) if isinstance(rule, Rule))

    def about(self, funnel: str) -> tuple[NamedRule, ...]:
        """The rules of every kind that cover this funnel."""
        own = tuple(rule for rule in self.rules if rule.funnel == funnel)
        names = {rule.alert for rule in own}
        return own + tuple(rule for rule in self.rules if rule.funnel == "*" and rule.alert not in names)

    @property
    def version(self) -> str:
        """Digest of all rules."""
        return hashlib.sha256("".join(rule.version for rule in self.rules).encode()).hexdigest()[:12]

    def describe(self) -> list[dict[str, Any]]:
        """One plain object per rule, with its version."""
        return [{**rule.model_dump(mode="json", by_alias=True), "version": rule.version} for rule in self.rules]
