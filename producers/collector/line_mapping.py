"""The YAML mapping of line protocol: each point becomes an event, a sample of a counter or timer, nothing or an error.

``producers/mappings/lines.yml`` is the shipped mapping and an example of every feature.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from funnelwatch.schemas.errors import FileError
from funnelwatch.schemas.events import FunnelEvent
from funnelwatch.schemas.file_errors import FilePart
from funnelwatch.schemas.plain_values import once
from funnelwatch.schemas.yaml_files import Document

if TYPE_CHECKING:
    from collections.abc import Mapping

SHIPPED: Final = Path(__file__).parents[1] / "mappings" / "lines.yml"
EVENT_FIELDS: Final = tuple(name for name in FunnelEvent.__slots__ if name not in ("ts", "contexts"))
UNIT_MS: Final = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
PLACEHOLDER: Final = re.compile(r"\{([^{}]+)\}")
NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_:]")

Name = Annotated[str, Field(min_length=1)]


class LinesFileError(FileError):
    """The mapping of line protocol is rejected."""


class Source(FilePart):
    """The source of a field of an event.

    Attributes:
        source: the tag or field of the line.
        value: the same value for every line, instead.
        values: replacements of texts; others stay unchanged.
    """

    source: Name | None = Field(None, alias="from", description="the name of a tag or field")
    value: str | None = Field(None, description="a text, in quotes where YAML takes it for a number")
    values: dict[str, str] = Field({}, description="a map of texts to texts, such as {ios: iOS}")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.source is None) == (self.value is None):
            raise ValueError("must have either from or value; right would be {from: page} or {value: iOS}")
        if self.value is not None and self.values:
            raise ValueError("values: has no effect beside value; right would be {from: page, values: {a: b}}")
        return self


def _source(given: Any) -> Any:
    return {"from": given} if isinstance(given, str) else given


def _template(name: str) -> str:
    rest = PLACEHOLDER.sub("", name)
    if "{" in rest or "}" in rest:
        raise ValueError(f"{name!r} has braces that are not a placeholder; right would be like '{{measurement}}_total'")
    return name


class Sample(FilePart):
    """A counter or a timer.

    Attributes:
        name: name of the counter or timer; ``{measurement}`` and ``{tag}`` stand for the line's.
        value: the field that has the increment, or the time.
        unit: unit of a time: ns, us, ms or s.
        dimensions: the tags that it is counted by; by default all.
        leave_out: tags that it is not counted by.
    """

    name: Annotated[Name, AfterValidator(_template)] = Field(description="a name such as '{measurement}_total'")
    value: Name = Field("value", description="the name of a field")
    unit: Literal["ns", "us", "ms", "s"] = Field("ms", description="ns, us, ms or s")
    dimensions: Annotated[tuple[Name, ...], AfterValidator(once)] | None = Field(
        None, description="a list of tags such as [os]"
    )
    leave_out: Annotated[tuple[Name, ...], AfterValidator(once)] = Field(
        (), description="a list of tags such as [host]"
    )

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if self.dimensions is not None and self.leave_out:
            raise ValueError("leave_out: has no effect beside dimensions; right would be one of the two")
        return self


class Entry(FilePart):
    """The meaning of the lines of one measurement.

    Attributes:
        measurement: its name; ``*`` stands for any letters.
        where: tags that a line must have.
        event: sources of the fields of an event; by default the tag or field of the same name.
        contexts: sources of further dimensions. Tags and fields that are no source keep their names there.
        counter: the line is a sample of a counter.
        timer: the line is a sample of a timer.
        ignore: the line is ignored.
    """

    measurement: Name = Field(description="a name, in which * stands for any letters")
    where: dict[str, str] = Field({}, description="a map of tags to texts, such as {metric_type: counter}")
    event: dict[str, Annotated[Source, BeforeValidator(_source)]] | None = Field(
        None, description="a map such as {step: page, os: {value: iOS}}"
    )
    contexts: dict[Name, Annotated[Source, BeforeValidator(_source)]] = Field(
        {}, description="a map such as {country: geo, plan: {value: free}}"
    )
    counter: Sample | None = Field(
        None, description="a map such as {name: '{measurement}', value: value}, with dimensions or leave_out"
    )
    timer: Sample | None = Field(
        None, description="a map such as {name: '{measurement}', value: ms, unit: ms}, with dimensions or leave_out"
    )
    ignore: bool = Field(False, strict=True, description="true or false")

    @model_validator(mode="after")
    def _one(self) -> Self:
        made = [self.event is not None, self.counter is not None, self.timer is not None, self.ignore]
        if sum(made) != 1:
            raise ValueError("must have one of event, counter, timer, 'ignore: true'")
        if unknown := sorted(set(self.event or {}) - set(EVENT_FIELDS)):
            raise ValueError(f"event: {unknown[0]} is not a field; right would be one of {', '.join(EVENT_FIELDS)}")
        if self.contexts and self.event is None:
            raise ValueError("contexts: has no effect without event; right would be dimensions of the counter or timer")
        if self.counter is not None and "unit" in self.counter.model_fields_set:
            raise ValueError("counter: unit: has no effect on a counter; right would be no unit, or a timer")
        return self

    def hides(self, other: Entry) -> bool:
        """Whether every line that fits the other entry fits this one."""
        return self.where.items() <= other.where.items() and self.measurement in {"*", other.measurement}

    def fits(self, measurement: str, tags: Mapping[str, str]) -> bool:
        """Whether a line fits the entry."""
        return fnmatchcase(measurement, self.measurement) and all(tags.get(k) == v for k, v in self.where.items())


class LineMapping(FilePart):
    """The file.

    Attributes:
        others: whether a line that fits no entry is rejected or ignored.
        lines: the entries; the first that fits applies.
    """

    others: Literal["reject", "ignore"] = Field("reject", description="reject or ignore")
    lines: tuple[Entry, ...] = Field(
        min_length=1,
        description="a list such as [{measurement: NAME, event: {}}], with where, event, counter, timer or ignore",
    )

    def entry(self, measurement: str, tags: Mapping[str, str]) -> Entry | None:
        """The entry of a line; None where there is none."""
        return next((entry for entry in self.lines if entry.fits(measurement, tags)), None)


def load_line_mapping(path: Path | None) -> LineMapping:
    """The mapping of a file; None: the shipped one.

    Raises:
        LinesFileError: the file cannot be read or used.
    """
    document = Document.read(path or SHIPPED, LinesFileError)
    mapping = document.validated(LineMapping)
    for number, entry in enumerate(mapping.lines):
        before = next((place for place, one in enumerate(mapping.lines[:number]) if one.hides(entry)), None)
        if before is not None:
            what = f"is never reached: lines[{before}] takes every line of it"
            raise document.rejected(["lines", number], what, f"to put it before lines[{before}]")
    return mapping


def name_of(template: str, measurement: str, tags: Mapping[str, str]) -> str:
    """The name of a counter or timer; characters that a name cannot have become underscores."""
    known = {**tags, "measurement": measurement}
    return NOT_IN_NAMES.sub("_", PLACEHOLDER.sub(lambda found: known.get(found[1], ""), template))
