"""What becomes of a point: an event of a funnel, a sample of a counter or timer, nothing, or an error; told in YAML.

``producers/mappings/lines.yml`` is the shipped mapping and shows every idea.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from funnelwatch.producers.files.mapping import Strict
from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.events import FunnelEvent
from funnelwatch.schemas.plain_values import in_words, once
from funnelwatch.schemas.yaml_files import YamlFileError, line_of, parse_yaml, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

SHIPPED: Final = Path(__file__).parents[1] / "mappings" / "lines.yml"
EVENT_FIELDS: Final = tuple(name for name in FunnelEvent.__slots__ if name not in ("ts", "contexts"))
UNIT_MS: Final = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
PLACEHOLDER: Final = re.compile(r"\{([^{}]+)\}")
NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_:]")

Name = Annotated[str, Field(min_length=1)]


class LinesFileError(FunnelwatchError, ValueError):
    """The mapping cannot be used; the message names the file, the key, what is wrong and what would be right."""


class Source(Strict):
    """Where a field of an event comes from.

    Attributes:
        source: the tag or field of the line.
        value: the same for every line, instead.
        values: what a text becomes; one that is not listed stays as it is.
    """

    source: Name | None = Field(None, alias="from")
    value: str | None = None
    values: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.source is None) == (self.value is None):
            raise ValueError("must have either from or value; right would be '{from: page}' or '{value: iOS}'")
        if self.value is not None and self.values:
            raise ValueError("values: does nothing beside value; right would be '{from: page, values: {a: b}}'")
        return self


def _source(given: Any) -> Any:
    return {"from": given} if isinstance(given, str) else given


def _template(name: str) -> str:
    rest = PLACEHOLDER.sub("", name)
    if "{" in rest or "}" in rest:
        raise ValueError(f"{name!r} has braces that are not a placeholder; right would be like '{{measurement}}_total'")
    return name


class Sample(Strict):
    """A counter or a timer.

    Attributes:
        name: of the counter or timer; ``{measurement}`` and ``{tag}`` stand for the line's.
        value: the field that has the increment, or the time.
        unit: of a time: ns, us, ms or s.
        dimensions: the tags that it is counted by; none given: all tags.
        leave_out: tags that it is not counted by.
    """

    name: Annotated[Name, AfterValidator(_template)]
    value: Name = "value"
    unit: Literal["ns", "us", "ms", "s"] = "ms"
    dimensions: Annotated[tuple[Name, ...], AfterValidator(once)] | None = None
    leave_out: Annotated[tuple[Name, ...], AfterValidator(once)] = ()

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if self.dimensions is not None and self.leave_out:
            raise ValueError("leave_out: does nothing beside dimensions; right would be one of the two")
        return self


class Entry(Strict):
    """What becomes of the lines of one measurement.

    Attributes:
        measurement: its name; ``*`` stands for any letters.
        where: tags that a line must have.
        event: where the fields of an event come from; those not named: from the tag or field of their name.
        counter: makes a sample of a counter.
        timer: makes a sample of a timer.
        ignore: makes nothing.
    """

    measurement: Name
    where: dict[str, str] = Field(default_factory=dict)
    event: dict[str, Annotated[Source, BeforeValidator(_source)]] | None = None
    counter: Sample | None = None
    timer: Sample | None = None
    ignore: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        made = [self.event is not None, self.counter is not None, self.timer is not None, self.ignore]
        if sum(made) != 1:
            raise ValueError("must have one of event, counter, timer, 'ignore: true'")
        if unknown := sorted(set(self.event or {}) - set(EVENT_FIELDS)):
            raise ValueError(f"event: {unknown[0]} is not a field; right would be one of {', '.join(EVENT_FIELDS)}")
        if self.counter is not None and "unit" in self.counter.model_fields_set:
            raise ValueError("counter: unit is of a time, and does nothing here; right would be no unit, or a timer")
        return self

    def hides(self, other: Entry) -> bool:
        """Whether every line that fits the other one fits this one."""
        return self.where.items() <= other.where.items() and self.measurement in {"*", other.measurement}

    def fits(self, measurement: str, tags: Mapping[str, str]) -> bool:
        """Whether a line is one of these."""
        return fnmatchcase(measurement, self.measurement) and all(tags.get(k) == v for k, v in self.where.items())


class LineMapping(Strict):
    """The file.

    Attributes:
        others: what becomes of a line that no entry fits.
        lines: the entries, of which the first that fits counts.
    """

    others: Literal["reject", "ignore"] = "reject"
    lines: tuple[Entry, ...] = Field(min_length=1)

    def entry(self, measurement: str, tags: Mapping[str, str]) -> Entry | None:
        """The entry of a line; None where there is none."""
        return next((entry for entry in self.lines if entry.fits(measurement, tags)), None)


def load_line_mapping(path: Path | None) -> LineMapping:
    """The mapping of a file; None: the one that is shipped.

    Raises:
        LinesFileError: it cannot be read or used.
    """
    path = path or SHIPPED
    try:
        document = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise LinesFileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LinesFileError(f"{path}: is not YAML: {error}") from error
    except YamlFileError as error:
        raise LinesFileError(f"{path}: is not YAML: line {str(error).removeprefix(f'{path}:')}") from error
    if not isinstance(document, dict):
        raise LinesFileError(f"{path}: is not a mapping; right would be {RIGHT['lines']}")
    try:
        mapping = LineMapping.model_validate(plain(document))
    except ValidationError as error:
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        loc = [part for part in first["loc"] if part != "[key]"]
        where = ".".join(str(part + 1) if isinstance(part, int) else part for part in loc)
        message = in_words(first["msg"])
        if "right would be" not in message:
            named = [part for part in reversed(loc) if isinstance(part, str) and part in RIGHT]
            message = f"{message}; right would be {RIGHT[named[0] if named else 'lines']}"
        raise LinesFileError(f"{path}: {where}: {message} (line {line_of(document, loc)})") from error
    for number, entry in enumerate(mapping.lines):
        before = next((place for place, one in enumerate(mapping.lines[:number]) if one.hides(entry)), None)
        if before is not None:
            what = f"is never reached: entry {before + 1} takes every line of it; right would be to put it before that"
            line = line_of(document, ["lines", number])
            raise LinesFileError(f"{path}: lines.{number + 1}: {what} (line {line})")
    return mapping


RIGHT = {
    "lines": "'lines: [{measurement: NAME, event: {}}]', with where, event, counter, timer or ignore",
    "others": "reject or ignore",
    "measurement": "a name, in which * stands for any letters",
    "where": "a map of tags to texts, such as {metric_type: counter}",
    "event": "a map such as {step: page, os: {value: iOS}}",
    "counter": "a map such as {name: '{measurement}', value: value}, with dimensions or leave_out",
    "timer": "a map such as {name: '{measurement}', value: ms, unit: ms}, with dimensions or leave_out",
    "ignore": "true or false",
    "unit": "ns, us, ms or s",
}


def name_of(template: str, measurement: str, tags: Mapping[str, str]) -> str:
    """The name of a counter or timer; letters that a name cannot have become underscores."""
    known = {**tags, "measurement": measurement}
    return NOT_IN_NAMES.sub("_", PLACEHOLDER.sub(lambda found: known.get(found[1], ""), template))
