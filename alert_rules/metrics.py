"""Rules of the kinds ``threshold`` and ``change`` about a counter or timer: those that name a ``metric``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from funnelwatch.alert_rules.model import Duration, NamedRule
from funnelwatch.schemas.metrics import DIMENSION, NAME
from funnelwatch.schemas.plain_values import Number, Text, Whole, once, some
from funnelwatch.schemas.times import HOUR_MS, MINUTE_MS, WEEK_MS

if TYPE_CHECKING:
    from funnelwatch.alert_rules.model import Rules

VALUES = "total, samples, mean, p50, p90 or p99"


def _dimension(name: str) -> str:
    if not DIMENSION.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a dimension")
    return name


def _metric(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a counter or timer")
    return name


DimensionName = Annotated[str, AfterValidator(_dimension)]


class MetricRule(NamedRule):
    """Fields of every rule about a counter or timer."""

    metric: Annotated[str, AfterValidator(_metric)] = Field(
        description="the name of a counter or timer, such as sms_sent"
    )
    value: Literal["total", "samples", "mean", "p50", "p90", "p99"] = Field("total", description=VALUES)
    by: Annotated[tuple[DimensionName, ...], AfterValidator(once), AfterValidator(some)] = Field(
        (), description="a list of dimensions that are evaluated apart, such as [os]; all together: no by"
    )
    where: dict[DimensionName, Text] = Field(
        default_factory=dict, description="a map of dimensions to the values that are evaluated, such as {os: iOS}"
    )
    over_ms: Duration = Field(300_000, gt=0, alias="over", description="a duration such as 5m")
    min_samples: Whole = Field(0, ge=0, description="the number of samples that it needs, such as 20")

    @field_validator("funnel")
    @classmethod
    def _every_funnel(cls, funnel: str) -> str:
        if funnel != "*":
            raise ValueError("must be '*': a counter or timer belongs to no funnel; right would be no funnel")
        return funnel

    @property
    def dimensions(self) -> frozenset[str]:
        """The dimensions in ``by``."""
        return frozenset(self.by)

    @property
    def needed(self) -> int:
        """The number of samples that an evaluation needs: a mean or quantile needs one."""
        return max(self.min_samples, int(self.value not in {"total", "samples"}))


class MetricThresholdRule(MetricRule):
    """The value over the last period is below, or above, a fixed number."""

    kind: Literal["threshold"] = Field(description="threshold or change")
    below: Number | None = Field(None, gt=0, description="a number above 0, such as 10")
    above: Number | None = Field(None, ge=0, validate_default=True, description="a number; or below, not both")

    @field_validator("above")
    @classmethod
    def _one_of_both(cls, above: float | None, info: ValidationInfo) -> float | None:
        return _either(above, info, "below")


class MetricChangeRule(MetricRule):
    """The value over the last period is lower, or higher, by a share than in an earlier period."""

    kind: Literal["change"] = Field(description="threshold or change")
    offset_ms: Duration = Field(
        WEEK_MS, gt=0, le=3 * WEEK_MS, alias="offset", description="a duration up to 3w, such as 1w"
    )
    drop: Number | None = Field(None, gt=0, lt=1, description="a share of the earlier value from 0 to 1, such as 0.5")
    rise: Number | None = Field(
        None, gt=0, validate_default=True, description="a share of the earlier value, such as 0.5; or drop, not both"
    )

    @field_validator("rise")
    @classmethod
    def _one_of_both(cls, rise: float | None, info: ValidationInfo) -> float | None:
        return _either(rise, info, "drop")


MetricRules = MetricThresholdRule | MetricChangeRule
METRIC_KINDS: dict[str, type[MetricRules]] = {"threshold": MetricThresholdRule, "change": MetricChangeRule}


def _either(one: float | None, info: ValidationInfo, other: str) -> float | None:
    if other in info.data and (one is None) == (info.data[other] is None):
        raise ValueError(f"either this or {other} must be there, and not both")
    return one


def metric_rules(rules: Rules) -> tuple[MetricRules, ...]:
    """The rules about counters and timers."""
    return tuple(rule for rule in rules.rules if isinstance(rule, MetricRules))


def metric_criterion(rule: MetricRules) -> str:
    """The condition of the rule, for people."""
    what = f"{rule.value} of {rule.metric} over {rule.over_ms / MINUTE_MS:g} min"
    if isinstance(rule, MetricThresholdRule):
        return f"{what} below {rule.below:g}" if rule.below is not None else f"{what} above {rule.above:g}"
    how = f"{rule.drop:.0%} lower" if rule.drop is not None else f"{rule.rise:.0%} higher"
    return f"{what} {how} than {rule.offset_ms / HOUR_MS:g} h before"
