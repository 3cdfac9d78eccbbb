"""The form of the funnels file, and its errors; see ``schemas.funnels``."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from funnelwatch.schemas.dimensions import DIMENSION_FIELDS, check_dimension_name
from funnelwatch.schemas.file_errors import FilePart, kind_of
from funnelwatch.schemas.funnels import MOST_STEPS, SESSION_WINDOW_MS, DeclaredFunnels, Funnel, FunnelsFileError
from funnelwatch.schemas.plain_values import Text, Whole, a_whole_number, once
from funnelwatch.schemas.times import DAY_MS, parse_span_ms
from funnelwatch.schemas.yaml_files import Document

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_SESSION_MS = DAY_MS


def _name(name: str) -> str:
    if name == "*":
        raise ValueError("* means every funnel")
    return name


def _step(step: str) -> str:
    if step in {"*", "all"}:
        raise ValueError(f"{step} means every step")
    return step


def _values(given: Any) -> Any:
    """One limit for every dimension, or a map of dimensions to limits."""
    for place, limit in given.items() if isinstance(given, dict) else [("", given)]:
        before = f"{place}: " if place else ""
        try:
            number = a_whole_number(limit)
        except ValueError as error:
            raise ValueError(f"{before}{error}") from None
        if number < 1:
            raise ValueError(f"{before}must be at least 1, not {number}")
    return given


def _span(given: Any) -> int:
    """A span of time, ms."""
    if not isinstance(given, str):
        raise ValueError(f"{given!r} is not a span of time")  # noqa: TRY004 - pydantic turns ValueErrors into its own
    span = parse_span_ms(given)
    if not 0 < span <= LONGEST_SESSION_MS:
        raise ValueError(f"{given} is not above 0 and at most 24h")
    return span


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        near = difflib.get_close_matches(name, available_timezones(), n=1)
        right = f"; right would be {near[0]}" if near else ""
        raise ValueError(f"{name!r} is not a time zone{right}") from None
    return name


def _spelled_out(given: Any) -> Any:
    """The map that a list of steps is short for."""
    if isinstance(given, list):
        return {"steps": given}
    if not isinstance(given, dict):
        raise ValueError(f"is {kind_of(given)}, neither a list nor a map")  # noqa: TRY004 - as above
    return given


MOST_DIMENSIONS = 20
"""Dimensions of one funnel."""

MOST_DIMENSIONS_OF_ALL = 100
"""Different dimensions of all funnels: the decoder reads them all (``MOST_DIMENSIONS`` in stream/native)."""

STEPS = "a list of different names, in order, such as [STEP, STEP]"
LIMITS = "a whole number from 1, or a map of dimensions to such numbers, such as {app_version: 200}"
Step = Annotated[Text, AfterValidator(_step), Field(description="a name such as VERIFY_SMS_CODE, in quotes if numeric")]
Dimension = Annotated[str, AfterValidator(check_dimension_name), Field(description="a name such as country")]


class FunnelPart(FilePart):
    """One funnel of the file."""

    steps: Annotated[tuple[Step, ...], AfterValidator(once)] = Field(
        min_length=1, max_length=MOST_STEPS, description=STEPS
    )
    dimensions: Annotated[tuple[Dimension, ...], AfterValidator(once)] = Field(
        DIMENSION_FIELDS,
        max_length=MOST_DIMENSIONS,
        description=f"a list of up to {MOST_DIMENSIONS} different names such as [os, app_version, country]",
    )
    values: Annotated[Any, BeforeValidator(_values)] = Field({}, description=LIMITS)
    max_series: Whole | None = Field(None, ge=1, description="a whole number from 1, such as 10000")
    session_window: Annotated[int, BeforeValidator(_span)] = Field(
        SESSION_WINDOW_MS, description="a span up to 24h, such as 1h"
    )
    timezone: Annotated[str, AfterValidator(_timezone)] = Field("UTC", description="an IANA name such as Europe/Berlin")

    @model_validator(mode="after")
    def _limits_have_effect(self) -> Self:
        """Reject limits of dimensions that the funnel does not have."""
        for name in self.values if isinstance(self.values, dict) else ():
            if name not in self.dimensions:
                right = ", ".join(self.dimensions) or "no limit"
                raise ValueError(f"values: {name}: is not a dimension of the funnel; right would be one of {right}")
        return self

    def funnel(self) -> Funnel:
        """The funnel that is declared."""
        limits = self.values if isinstance(self.values, dict) else dict.fromkeys(self.dimensions, self.values)
        return Funnel(self.steps, self.dimensions, limits, self.max_series, self.session_window, self.timezone)


class FunnelsFile(FilePart):
    """The funnels file."""

    funnels: dict[
        Annotated[Text, AfterValidator(_name), Field(description="a name such as sign_up")],
        Annotated[FunnelPart, BeforeValidator(_spelled_out), Field(description=f"{STEPS}, or a map with steps")],
    ] = Field(min_length=1, description="a map of names to steps such as {sign_up: [STEP, STEP]}")
    undeclared: Literal["accept", "reject"] | None = Field(None, description="accept or reject")
    undeclared_funnels: Whole | None = Field(None, ge=0, description="a whole number from 0, such as 20")

    @model_validator(mode="after")
    def _few_dimensions(self) -> Self:
        names = {name for funnel in self.funnels.values() for name in funnel.dimensions}
        if len(names) > MOST_DIMENSIONS_OF_ALL:
            raise ValueError(
                f"funnels: have {len(names)} different dimensions; right would be up to {MOST_DIMENSIONS_OF_ALL}"
            )
        return self

    @model_validator(mode="after")
    def _limit_has_effect(self) -> Self:
        if self.undeclared == "reject" and self.undeclared_funnels is not None:
            raise ValueError(
                "undeclared_funnels: has no effect beside undeclared: reject; right would be one of the two"
            )
        return self


def read_funnels(path: Path) -> DeclaredFunnels:
    """The declared funnels of a file.

    Raises:
        FunnelsFileError: the file is missing, is not YAML, or is not of the form that ``schemas.funnels`` describes.
    """
    document = Document.read(path, FunnelsFileError)
    file = document.validated(FunnelsFile)
    for name in document.at(["funnels"]):
        if not isinstance(name, str):
            raise document.rejected(["funnels", str(name)], "the name is not a text", "a name, in quotes")
    by_name = {name: one.funnel() for name, one in file.funnels.items()}
    return DeclaredFunnels(by_name, file.undeclared, file.undeclared_funnels)
