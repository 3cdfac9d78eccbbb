"""A mapping file: which columns of somebody's data make the fields of our events, and which names make which events.

``producers/mappings/ecom.yml`` is an example with every idea explained. The file is read into ``Mapping``; ``Mapper``
(``mapper.py``) applies it to rows.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.events import Phase, Status
from funnelwatch.schemas.plain_values import Text, Whole, in_words
from funnelwatch.schemas.yaml_files import load_yaml

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

FORMATS = ("iso", "s", "ms")


class MappingFileError(FunnelwatchError, ValueError):
    """The mapping cannot be used; the message names file, line, field, what is wrong and what would be right."""


class Strict(BaseModel):
    """A part of the file; a key that it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Name = Annotated[str, Field(min_length=1)]


class Column(Strict):
    """A field taken from a column, or the same for every row.

    Attributes:
        column: the column (or JSON key) that has the value.
        value: the value of every row, instead of a column.
        values: what a column's value becomes; one that is not listed stays as it is.
        default: for rows where the column is absent or empty.
    """

    column: Name | None = None
    value: str | None = None
    values: dict[str, str] = {}
    default: str = ""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.column is None) == (self.value is None):
            raise ValueError("must have either column or value; right would be '{column: NAME}' or '{value: iOS}'")
        if self.value is not None and (self.values or self.default):
            useless = "values" if self.values else "default"
            raise ValueError(f"{useless}: does nothing beside value; right would be '{{column: NAME, {useless}: …}}'")
        return self


def _column(given: Any) -> Any:
    return {"column": given} if isinstance(given, str) else given


AsColumn = Annotated[Column, BeforeValidator(_column)]
"""A column's name alone means that column."""


class Time(Strict):
    """Where the event time is and how it is written.

    Attributes:
        column: the column that has it.
        format: iso (ISO 8601), s or ms since the epoch, or a strptime format like "%d.%m.%Y %H:%M:%S".
        timezone: of times that name none, like Europe/Berlin.
    """

    column: Name
    format: Name = "iso"
    timezone: Name = "UTC"

    @field_validator("format")
    @classmethod
    def _known_format(cls, given: str) -> str:
        if given not in FORMATS:
            if "%" not in given:
                raise ValueError(f"{given!r} is no format; right would be iso, s, ms or like '%Y-%m-%d %H:%M:%S'")
            example = datetime(2024, 2, 29, 12, 30, 15)  # noqa: DTZ001 - only to try the format
            try:
                datetime.strptime(example.strftime(given), given)  # noqa: DTZ007 - likewise
            except ValueError as error:
                raise ValueError(f"{given!r} is no format of strptime: {error}") from error
        return given

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, given: str) -> str:
        try:
            ZoneInfo(given)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{given!r} is no time zone; right would be UTC or Europe/Berlin") from None
        return given


def _time(given: Any) -> Any:
    return {"column": given} if isinstance(given, str) else given


class Made(Strict):
    """One event that a row makes.

    Attributes:
        step: the step.
        phase: IMPRESSION or POST_VERIFICATION.
        status: SUCCESS or FAILURE of a POST_VERIFICATION.
    """

    step: Text
    phase: Phase
    status: Status | None = None

    @model_validator(mode="after")
    def _status_where_judged(self) -> Self:
        if self.phase is Phase.IMPRESSION and self.status:
            raise ValueError("status: an IMPRESSION has none; right would be phase: POST_VERIFICATION, or no status")
        if self.phase is Phase.POST_VERIFICATION and not self.status:
            raise ValueError("status: is missing; a POST_VERIFICATION needs SUCCESS or FAILURE")
        return self


def _made_once(made: list[Made]) -> list[Made]:
    for number, one in enumerate(made):
        if one in made[:number]:
            raise ValueError(f"makes the same event twice, of {one.step}; right would be each once")
    return made


class Mapping(Strict):
    """The whole file.

    Attributes:
        funnel: name of the funnel that the events belong to.
        session_id: the session.
        ts: the event time.
        event_id: a unique id of the row; without it one is made of the row's content and place in the file, the same
            every time, so that a file that is produced twice is counted once.
        os, browser, app_version: the dimensions.
        contexts: other columns worth keeping, by the name they get.
        event: the column with the name of what happened.
        events: name to the events it makes; none: known, but nothing to count.
        other_events: what to do with a name that ``events`` does not list.
        once_per_session: count each step, phase and status of a session only the first time, and a verification only
            after the impression of its step, dated by it (``duration_ms``); so no rate is above 1.
        remember_sessions: how many sessions ``once_per_session`` remembers; the one not seen for longest is forgotten
            first. A session costs about 1 kB.
    """

    funnel: Text
    session_id: AsColumn
    ts: Annotated[Time, BeforeValidator(_time)]
    event_id: AsColumn | None = None
    os: AsColumn = Column(value="unknown")
    browser: AsColumn = Column(value="")
    app_version: AsColumn = Column(value="")
    contexts: dict[Name, AsColumn] = {}
    event: AsColumn
    events: Annotated[dict[Name, Annotated[list[Made], AfterValidator(_made_once)]], Field(min_length=1)]
    other_events: Literal["reject", "ignore"] = "reject"
    once_per_session: Annotated[bool, Field(strict=True)] = False
    remember_sessions: Annotated[Whole, Field(ge=1)] = 100_000


def load_mapping(path: Path) -> Mapping:
    """The mapping of a file.

    Raises:
        MappingFileError: it cannot be read, is no YAML, or says what cannot be.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MappingFileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise MappingFileError(f"{path}: is not UTF-8: {error}") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark
        raise MappingFileError(f"{path}:{mark.line + 1 if mark else 1}: is not YAML: {error.problem}") from error
    except (YAMLError, RecursionError) as error:
        raise MappingFileError(f"{path}: is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise MappingFileError(f"{path}:1: is not a mapping; right would be 'funnel: NAME', 'events: …' and so on")
    try:
        return Mapping.model_validate(_plain(content))
    except ValidationError as error:
        faults = [_fault(path, content, details) for details in error.errors()]
        raise MappingFileError("\n".join(faults)) from error


def _plain(node: Any) -> Any:
    """The content without the YAML reader's own types; keys that YAML took for numbers or booleans are text."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(item) for item in node]
    return str(node) if isinstance(node, str) else node


def _fault(path: Path, content: Any, details: ErrorDetails) -> str:
    """One fault in a line: file, line, field, what is wrong, what would be right."""
    loc = [part for part in details["loc"] if part != "[key]"]
    keys = [part for part in loc if isinstance(part, int) or not part.startswith("function-")]
    field = ".".join(map(str, keys)) or "the file"
    return f"{path}:{_line(content, keys)}: {field}: {_words(details, keys)}"


def _words(details: ErrorDetails, keys: list[int | str]) -> str:
    kind, given = details["type"], details["input"]
    if kind == "missing":
        return f"is missing; right would be {_right(keys)}"
    if kind == "extra_forbidden":
        parts: dict[str, type[Strict]] = {"ts": Time, "events": Made}
        part = Mapping if len(keys) == 1 else parts.get(str(keys[0]), Column)
        return f"is not known here; right would be one of {', '.join(part.model_fields)}"
    if kind == "value_error":
        message = in_words(details["msg"])
        return message if "right would be" in message else f"{message}; right would be {_right(keys)}"
    return f"{given!r} cannot be: {in_words(details['msg'])}; right would be {_right(keys)}"


RIGHT = {
    "funnel": "the name of a funnel, such as sign_up",
    "step": "the name of a step",
    "phase": "IMPRESSION or POST_VERIFICATION",
    "status": "SUCCESS or FAILURE",
    "events": "a map such as {form_shown: [{step: form, phase: IMPRESSION}]}",
    "values": "a map of texts to texts, such as {ios: iOS}",
    "contexts": "a map such as {country: COLUMN}",
    "other_events": "reject or ignore",
    "once_per_session": "true or false",
    "remember_sessions": "a whole number from 1, such as 100000",
    "ts": "a column, or {column: at, format: ms}",
    "value": "a text, in quotes where YAML takes it for a number",
    "default": "a text, in quotes where YAML takes it for a number",
}


def _right(keys: list[int | str]) -> str:
    """What would be right at a place."""
    return next((RIGHT[key] for key in reversed(keys) if isinstance(key, str) and key in RIGHT), "the name of a column")


def _line(node: Any, keys: list[int | str]) -> int:
    """The line of the place that keys lead to, or of the last part of the way that exists."""
    line: int = node.lc.line
    for key in keys:
        try:
            line = node.lc.data[key][0]
            node = node[key]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line + 1
