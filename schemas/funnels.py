"""Declared funnels: their steps in order, the dimensions that they count by, and their limits.

An event of a declared funnel with a step that the funnel does not have is rejected; an undeclared funnel takes any
step. The file is YAML. A funnel is a list of its steps, or a map::

    funnels:
      sign_up: [INPUT_PHONE_NUMBER, VERIFY_SMS_CODE, INPUT_NAME, INPUT_PASSWORD]
      checkout:
        steps: [CART, SHIPPING, PAYMENT]
        dimensions: [os, app_version, country]
        values: {country: 250}
        max_series: 20000
        session_window: 2h
        timezone: Europe/Berlin
    undeclared: accept
    undeclared_funnels: 20

The file wins over the settings ``FUNNELWATCH_UNDECLARED_FUNNELS`` and ``FUNNELWATCH_UNDECLARED_MAX_FUNNELS`` where it
has the field: collectors, workers and repairs must decide the same, and all of them read this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS
from funnelwatch.schemas.errors import FileError
from funnelwatch.schemas.times import HOUR_MS

if TYPE_CHECKING:
    from pathlib import Path

SESSION_WINDOW_MS = HOUR_MS
"""The session window of a funnel that declares none, ms."""

MOST_STEPS = 64
"""Steps of one funnel."""

SIGN_UP = ("INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE", "INPUT_NAME", "INPUT_PASSWORD")


@dataclass(frozen=True, slots=True)
class Funnel:
    """One declared funnel.

    Attributes:
        steps: the names of its steps, in order.
        dimensions: the fields of events, or keys of their contexts, that it counts by.
        values: dimension to the largest number of its values; ``FUNNELWATCH_FUNNEL_MAX_VALUES`` for the others.
        max_series: the largest number of its series; None: ``FUNNELWATCH_FUNNEL_MAX_SERIES``.
        session_window_ms: a session that entered the funnel counts for later steps within this time, ms.
        timezone: the IANA name of the zone in which its days begin.
    """

    steps: tuple[str, ...]
    dimensions: tuple[str, ...] = DIMENSION_FIELDS
    values: Mapping[str, int] = field(default_factory=dict)
    max_series: int | None = None
    session_window_ms: int = SESSION_WINDOW_MS
    timezone: str = "UTC"


Funnels = Mapping[str, Funnel]
"""Declared funnels by name."""


@dataclass(frozen=True, slots=True)
class DeclaredFunnels(Funnels):
    """The content of a funnels file: the funnels by name, and its policy for other funnels.

    Attributes:
        by_name: the funnels.
        undeclared: whether events of other funnels are counted; None: ``FUNNELWATCH_UNDECLARED_FUNNELS``.
        undeclared_funnels: how many other funnels there may be; None: ``FUNNELWATCH_UNDECLARED_MAX_FUNNELS``.
    """

    by_name: Mapping[str, Funnel]
    undeclared: Literal["accept", "reject"] | None = None
    undeclared_funnels: int | None = None

    def __getitem__(self, name: str) -> Funnel:
        """The funnel of that name."""
        return self.by_name[name]

    @property
    def longest_session_ms(self) -> int:
        """The longest session window that any funnel has, declared or not, ms."""
        windows = [one.session_window_ms for one in self.by_name.values()]
        return max(windows if self.undeclared == "reject" else [*windows, SESSION_WINDOW_MS], default=SESSION_WINDOW_MS)

    def __iter__(self) -> Iterator[str]:
        """The names, in the order of the file."""
        return iter(self.by_name)

    def __len__(self) -> int:
        """The number of funnels."""
        return len(self.by_name)


BUILT_IN = DeclaredFunnels({"sign_up": Funnel(SIGN_UP)})


class FunnelsFileError(FileError):
    """The funnels file is rejected."""


def load_funnels(path: Path | None) -> DeclaredFunnels:
    """The declared funnels of a file; the built-in ``sign_up`` without one.

    Raises:
        FunnelsFileError: the file is missing, is not YAML, or is not of the form above.
    """
    if path is None:
        return BUILT_IN
    from funnelwatch.schemas.funnels_file import read_funnels  # noqa: PLC0415 - clients without a file need no YAML

    return read_funnels(path)


def dimensions_of(funnel: str, declared: Funnels, stored: Iterable[str] = ()) -> tuple[str, ...]:
    """The dimensions that a funnel, declared or not, counts by.

    Args:
        funnel: its name.
        declared: the declared funnels; the funnel need not be among them.
        stored: further dimensions that its stored series have (``RateStore.stored_dimensions``): an older declaration
            may have had others.

    Returns:
        The declared ones in their order, then the others by name.
    """
    own = declared[funnel].dimensions if funnel in declared else DIMENSION_FIELDS
    return (*own, *sorted(set(stored).difference(own)))


def context_keys(funnels: Funnels) -> tuple[str, ...]:
    """The keys of contexts that any declared funnel counts by, sorted."""
    return tuple(sorted({name for funnel in funnels.values() for name in funnel.dimensions} - set(DIMENSION_FIELDS)))


def series_of(event: Mapping[str, Any], funnels: Funnels) -> Series:
    """The series that a decoded event counts for, whatever the limits."""
    contexts = event["contexts"]
    values = {
        name: event[name] if name in DIMENSION_FIELDS else contexts.get(name, "")
        for name in dimensions_of(event["funnel"], funnels)
    }
    return Series.of(event["funnel"], event["step"], **values)
