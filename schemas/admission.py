"""Admission of series: names come from outside, and invented names must not slow the declared funnels down.

Events beyond a limit do not vanish. A value of a dimension is folded into ``(other)``, so that funnel and step still
count. An undeclared funnel, or a step of one, is rejected with its reason in the dead letters. The table of series
decides, so all workers and every replay agree, and an admitted series stays admitted. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.funnels import dimensions_of
from funnelwatch.schemas.validation import RejectedError, RejectionReason

if TYPE_CHECKING:
    from funnelwatch.schemas.funnels import DeclaredFunnels, Funnels
    from funnelwatch.schemas.settings import Settings

    Admission = Series | RejectedError
    """The series that an event counts for, or the reason of its rejection."""

OTHER = "(other)"


@dataclass(frozen=True, slots=True)
class SeriesLimits:
    """The largest number of each kind of name, where the declaration of a funnel does not say otherwise.

    Attributes:
        funnels: undeclared funnels.
        steps: steps of an undeclared funnel.
        values: values of each dimension of a funnel.
        series: series of a declared funnel.
        undeclared_series: series of an undeclared funnel.
    """

    funnels: int = 20
    steps: int = 50
    values: int = 500
    series: int = 10_000
    undeclared_series: int = 1_000

    @classmethod
    def of(cls, settings: Settings, funnels: DeclaredFunnels) -> SeriesLimits:
        """The limits of the settings, and of the funnels file where it has any."""
        others = funnels.undeclared_funnels
        return cls(
            settings.undeclared_max_funnels if others is None else others,
            settings.undeclared_max_steps,
            settings.funnel_max_values,
            settings.funnel_max_series,
            settings.undeclared_max_series,
        )


@dataclass(slots=True)
class FunnelSeries:
    """The series that a funnel has."""

    series: set[Series] = field(default_factory=set)
    steps: set[str] = field(default_factory=set)
    values: dict[str, set[str]] = field(default_factory=dict)

    def add(self, one: Series) -> list[tuple[set[Any], Any]]:
        """Add a series; the sets that have grown, each with what it has more."""
        places: list[tuple[set[Any], Any]] = [(self.series, one), (self.steps, one.step)]
        places += [(self.values.setdefault(name, set()), value) for name, value in one.dimensions]
        grown = [(names, name) for names, name in places if name not in names]
        for names, name in grown:
            names.add(name)
        return grown


@dataclass(slots=True)
class Admitting:
    """Admits series, in the order of the requests.

    Attributes:
        declared: the declared funnels.
        limits: the limits.
        known: the series of each funnel; admitted series join them.
        new: admitted series that are not stored yet.
    """

    declared: Funnels
    limits: SeriesLimits
    known: dict[str, FunnelSeries]
    new: list[Series] = field(default_factory=list)
    _grown: list[tuple[set[Any], Any]] = field(default_factory=list)
    _begun: list[str] = field(default_factory=list)

    def undo(self) -> None:
        """Take back what was admitted; for one who learns that it knew too little."""
        for names, name in self._grown:
            names.discard(name)
        for funnel in self._begun:
            del self.known[funnel]
        self.new, self._grown, self._begun = [], [], []

    def __call__(self, wanted: Series) -> Admission:
        """The series itself, the series that it is folded into, or the reason of its rejection."""
        limits = self.limits
        declared = self.declared.get(wanted.funnel)
        is_declared = declared is not None
        funnel = self.known.get(wanted.funnel)
        if funnel is None:
            others = sum(1 for name in self.known if name not in self.declared)
            if not is_declared and others >= limits.funnels:
                return RejectedError(
                    RejectionReason.TOO_MANY_FUNNELS,
                    f"the funnel {wanted.funnel} is not declared, and there are {others} such funnels already, as many "
                    "as FUNNELWATCH_UNDECLARED_MAX_FUNNELS, or undeclared_funnels in the funnels file, allows",
                )
            funnel = FunnelSeries()
        if wanted in funnel.series:
            return wanted
        if not is_declared and wanted.step not in funnel.steps and len(funnel.steps) >= limits.steps:
            return RejectedError(
                RejectionReason.TOO_MANY_STEPS,
                f"the funnel {wanted.funnel} is not declared, and it has {len(funnel.steps)} steps already, as many as "
                "FUNNELWATCH_UNDECLARED_MAX_STEPS allows",
            )
        folded = self._folded(wanted, funnel)
        most = limits.undeclared_series if declared is None else declared.max_series or limits.series
        if folded not in funnel.series and len(funnel.series) >= most:
            names = dimensions_of(wanted.funnel, self.declared)
            folded = Series.of(wanted.funnel, wanted.step, **dict.fromkeys(names, OTHER))
        if folded not in funnel.series:
            if wanted.funnel not in self.known:
                self.known[wanted.funnel] = funnel
                self._begun.append(wanted.funnel)
            self._grown += funnel.add(folded)
            self.new.append(folded)
        return folded

    def _folded(self, wanted: Series, funnel: FunnelSeries) -> Series:
        """The series, with ``(other)`` for new values beyond the limit."""
        declared = self.declared.get(wanted.funnel)
        most = {} if declared is None else declared.values
        folded = {}
        for name, value in wanted.dimensions:
            values = funnel.values.get(name, set())
            is_beyond = value not in values and len(values) - (OTHER in values) >= most.get(name, self.limits.values)
            folded[name] = OTHER if is_beyond else value
        return Series.of(wanted.funnel, wanted.step, **folded)
