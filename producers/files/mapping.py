"""A mapping file: the columns that become the fields of events, and the names that become events.

``producers/mappings/ecom.yml`` is an example that explains every feature. ``Mapper`` (``mapper.py``) applies a
``Mapping`` to rows.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from funnelwatch.schemas.errors import FileError
from funnelwatch.schemas.events import Phase, Status
from funnelwatch.schemas.file_errors import FilePart
from funnelwatch.schemas.plain_values import Text, Whole  # noqa: TC001 - pydantic looks at it
from funnelwatch.schemas.yaml_files import Document

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ("iso", "s", "ms")


class MappingFileError(FileError):
    """A mapping file is rejected."""


Name = Annotated[str, Field(min_length=1)]


class Column(FilePart):
    """A field from a column, or the same for every row.

    Attributes:
        column: the column (or JSON key) that has the value.
        value: the value of every row, instead of a column.
        values: replacements of the column's values; others stay unchanged.
        default: for rows where the column is absent or empty.
    """

    column: Name | None = Field(None, description="the name of a column")
    value: str | None = Field(None, description="a text, in quotes where YAML takes it for a number")
    values: dict[str, str] = Field({}, description="a map of texts to texts, such as {ios: iOS}")
    default: str = Field("", description="a text, in quotes where YAML takes it for a number")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.column is None) == (self.value is None):
            raise ValueError("must have either column or value; right would be {column: NAME} or {value: iOS}")
        if self.value is not None and (self.values or self.default):
            useless = "values" if self.values else "default"
            raise ValueError(f"{useless}: has no effect beside value; right would be {{column: NAME, {useless}: …}}")
        return self


def _column(given: Any) -> Any:
    return {"column": given} if isinstance(given, str) else given


AsColumn = Annotated[
    Column, BeforeValidator(_column), Field(description="the name of a column, {column: NAME} or {value: iOS}")
]
"""A text alone is the name of a column."""


class Time(FilePart):
    """The column and the format of the event time.

    Attributes:
        column: the column.
        format: iso (ISO 8601), s or ms since the epoch, or a strptime format like "%d.%m.%Y %H:%M:%S".
        timezone: the zone of times that name none, like Europe/Berlin.
    """

    column: Name = Field(description="the name of a column")
    format: Name = Field("iso", description="iso, s, ms or a format such as '%Y-%m-%d %H:%M:%S'")
    timezone: Name = Field("UTC", description="UTC or Europe/Berlin")

    @field_validator("format")
    @classmethod
    def _known_format(cls, given: str) -> str:
        if given not in FORMATS:
            if "%" not in given:
                raise ValueError(f"{given!r} is not a format")
            example = datetime(2024, 2, 29, 12, 30, 15)  # noqa: DTZ001 - a test of the format
            try:
                datetime.strptime(example.strftime(given), given)  # noqa: DTZ007 - likewise
            except ValueError as error:
                raise ValueError(f"{given!r} is not a format of strptime: {error}") from error
        return given

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, given: str) -> str:
        try:
            ZoneInfo(given)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{given!r} is not a time zone") from None
        return given


class Made(FilePart):
    """One event of a row.

    Attributes:
        step: the step.
        phase: IMPRESSION or POST_VERIFICATION.
        status: SUCCESS or FAILURE of a POST_VERIFICATION.
    """

    step: Text = Field(description="the name of a step")
    phase: Phase = Field(description="IMPRESSION or POST_VERIFICATION")
    status: Status | None = Field(None, description="SUCCESS or FAILURE")

    @model_validator(mode="after")
    def _status_of_a_verification(self) -> Self:
        if self.phase is Phase.IMPRESSION and self.status:
            raise ValueError("status: an IMPRESSION has none; right would be no status, or phase: POST_VERIFICATION")
        if self.phase is Phase.POST_VERIFICATION and not self.status:
            raise ValueError("status: is missing, and a POST_VERIFICATION has one")
        return self


def _made_once(made: list[Made]) -> list[Made]:
    for number, one in enumerate(made):
        if one in made[:number]:
            raise ValueError(f"has the same event of {one.step} twice; right would be each once")
    return made


class Mapping(FilePart):
    """The whole file.

    Attributes:
        funnel: name of the funnel that the events belong to.
        session_id: the session.
        ts: the event time.
        event_id: a unique id of the row; by default a hash of the row's content and line, so that a file that is
            produced twice counts once.
        os, browser, app_version: the dimensions.
        contexts: other columns to keep, by name.
        event: the column with the name of the row's event.
        events: name to funnel events; an empty list: a known name that counts nothing.
        other_events: whether names that ``events`` does not list are rejected or ignored.
        once_per_session: count each step, phase and status of a session only the first time, and a verification only
            after the impression of its step, dated by it (``duration_ms``); so no rate is above 1.
        remember_sessions: the number of sessions that ``once_per_session`` remembers; the least recently seen one is
            forgotten first. A session costs about 1 kB.
    """

    funnel: Text = Field(description="the name of a funnel, such as sign_up")
    session_id: AsColumn
    ts: Annotated[Time, BeforeValidator(_column)] = Field(description="a column, or {column: at, format: ms}")
    event_id: AsColumn | None = None
    os: AsColumn = Column(value="unknown")
    browser: AsColumn = Column(value="")
    app_version: AsColumn = Column(value="")
    contexts: dict[Name, AsColumn] = Field({}, description="a map such as {country: COLUMN}")
    event: AsColumn
    events: dict[Name, Annotated[list[Made], AfterValidator(_made_once)]] = Field(
        min_length=1, description="a map such as {form_shown: [{step: form, phase: IMPRESSION}]}"
    )
    other_events: Literal["reject", "ignore"] = Field("reject", description="reject or ignore")
    once_per_session: bool = Field(False, strict=True, description="true or false")
    remember_sessions: Whole = Field(100_000, ge=1, description="a whole number from 1, such as 100000")


def load_mapping(path: Path) -> Mapping:
    """The mapping of a file.

    Raises:
        MappingFileError: the file cannot be read, is not YAML, or is not a mapping.
    """
    return Document.read(path, MappingFileError).validated(Mapping)
