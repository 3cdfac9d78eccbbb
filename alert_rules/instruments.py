"""Rules of the kind ``instrumentation``: about the counting itself, not about conversion.

Each of the four signals has fields of its own. A signal that fires inhibits, for ``inhibit_for``, the conversion alerts
that it explains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from funnelwatch.alert_rules.model import LEVELS, Duration, Level, NamedRule, ordered_levels, parse_levels
from funnelwatch.schemas.plain_values import Number, Whole  # noqa: TC001 - pydantic looks at it

if TYPE_CHECKING:
    from funnelwatch.alert_rules.model import Rules

SIGNALS = "impressions, dead_letters, silent or watermark"


class InstrumentRule(NamedRule):
    """Fields of every signal."""

    kind: Literal["instrumentation"] = Field(description="instrumentation")
    inhibit_for_ms: Duration = Field(
        1_800_000,
        ge=0,
        alias="inhibit_for",
        description="a duration for which it inhibits the conversion alerts that it explains, such as 30m",
    )


class PipelineRule(InstrumentRule):
    """A signal about the events topic, which all funnels share."""

    @field_validator("funnel")
    @classmethod
    def _every_funnel(cls, funnel: str) -> str:
        if funnel != "*":
            raise ValueError("must be '*': all funnels share the events topic; right would be no funnel")
        return funnel


class ImpressionsRule(InstrumentRule):
    """Every step of a funnel has far fewer impressions than at this time of earlier weeks, and than just before."""

    signal: Literal["impressions"] = Field(description=SIGNALS)
    by: Annotated[tuple[Level, ...], BeforeValidator(parse_levels)] = Field(((),), description=LEVELS)
    below: Number = Field(0.2, gt=0, lt=1, description="a share of the usual impressions from 0 to 1, such as 0.2")
    over_ms: Duration = Field(600_000, gt=0, alias="over", description="a duration such as 10m")
    min_expected: Whole = Field(300, ge=1, description="the number of usual impressions that it needs, such as 300")

    _ordered = field_validator("by")(ordered_levels)

    @property
    def dimensions(self) -> frozenset[str]:
        """The dimensions of all levels."""
        return frozenset(name for level in self.by for name in level)


class DeadLettersRule(PipelineRule):
    """The share of rejected records is far above the usual one."""

    signal: Literal["dead_letters"] = Field(description=SIGNALS)
    above: Number = Field(0.05, gt=0, lt=1, description="a share of all records from 0 to 1, such as 0.05")
    times: Number = Field(5.0, ge=1, description="a multiple of the usual share, such as 5")
    over_ms: Duration = Field(300_000, gt=0, alias="over", description="a duration such as 5m")
    min_rejected: Whole = Field(100, ge=1, description="the number of rejected records that it needs, such as 100")


class SilentRule(PipelineRule):
    """A partition that usually has records gets none, while others do."""

    signal: Literal["silent"] = Field(description=SIGNALS)
    over_ms: Duration = Field(900_000, gt=0, alias="over", description="a duration such as 15m")
    min_expected: Whole = Field(
        200, ge=1, description="the number of records that the partition usually has, such as 200"
    )


class WatermarkRule(PipelineRule):
    """A partition is not consumed, so no window closes and nothing is evaluated."""

    signal: Literal["watermark"] = Field(description=SIGNALS)
    over_ms: Duration = Field(600_000, gt=0, alias="over", description="a duration such as 10m")


Instrument = ImpressionsRule | DeadLettersRule | SilentRule | WatermarkRule
INSTRUMENTS: dict[str, type[Instrument]] = {
    "impressions": ImpressionsRule,
    "dead_letters": DeadLettersRule,
    "silent": SilentRule,
    "watermark": WatermarkRule,
}


def instruments(rules: Rules, funnel: str) -> tuple[Instrument, ...]:
    """The rules about the instrumentation of this funnel; ``*`` for those about the pipeline."""
    found = tuple(rule for rule in rules.about(funnel) if isinstance(rule, Instrument))
    return tuple(rule for rule in found if isinstance(rule, PipelineRule) == (funnel == "*"))
