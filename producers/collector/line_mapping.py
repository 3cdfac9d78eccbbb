"""What becomes of a point: an event of a funnel, a sample of a counter or timer, nothing, or an error; told in YAML.

``producers/mappings/lines.yml`` is the shipped mapping and shows every idea.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from producers.mapping import Strict
from schemas.events import FunnelEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

SHIPPED: Final = Path(__file__).parents[1] / "mappings" / "lines.yml"
EVENT_FIELDS: Final = tuple(name for name in FunnelEvent.__slots__ if name not in ("ts", "contexts"))
UNIT_MS: Final = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
PLACEHOLDER: Final = re.compile(r"\{([^{}]+)\}")
NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_:]")

Name = Annotated[str, Field(min_length=1)]


class LinesFileError(ValueError):
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
        return self


def _source(given: Any) -> Any:
    return {"from": given} if isinstance(given, str) else given


class Sample(Strict):
    """A counter or a timer.

    Attributes:
        name: of the counter or timer; ``{measurement}`` and ``{tag}`` stand for the line's.
        value: the field that has the increment, or the time.
        unit: of a time: ns, us, ms or s.
        dimensions: the tags that it is counted by; none given: all tags.
        leave_out: tags that it is not counted by.
    """

    name: Name
    value: Name = "value"
    unit: Literal["ns", "us", "ms", "s"] = "ms"
    dimensions: tuple[Name, ...] | None = None
    leave_out: tuple[Name, ...] = ()


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
    ignore: bool = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        made = [self.event is not None, self.counter is not None, self.timer is not None, self.ignore]
        if sum(made) != 1:
            raise ValueError("must have one of event, counter, timer, 'ignore: true'")
        if unknown := sorted(set(self.event or {}) - set(EVENT_FIELDS)):
            raise ValueError(f"event: {unknown[0]} is not a field; right would be one of {', '.join(EVENT_FIELDS)}")
        return self

    def fits(self, measurement: str, tags: Mapping[str, str]) -> bool:
        """Whether a line is one of these."""
        return fnmatchcase(measurement, self.measurement) and all(tags.get(k) == v for k, v in self.where.items())


class LineMapping(Strict):
    """The file.

    Attributes:
        others: what becomes of a line that no entry fits.
        lines: the entries, of which the first that fits counts.
    """

    others: Literal["refuse", "ignore"] = "refuse"
    lines: tuple[Entry, ...]

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
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LinesFileError(f"{path}: cannot be read: {error.strerror}") from error
    except (YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise LinesFileError(f"{path}: is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise LinesFileError(f"{path}: is not a mapping; right would be 'lines: [{{measurement: NAME, event: {{}}}}]'")
    try:
        return LineMapping.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part + 1) if isinstance(part, int) else part for part in first["loc"])
        raise LinesFileError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from error


def name_of(template: str, measurement: str, tags: Mapping[str, str]) -> str:
    """The name of a counter or timer; letters that a name cannot have become underscores."""
    known = {**tags, "measurement": measurement}
    return NOT_IN_NAMES.sub("_", PLACEHOLDER.sub(lambda found: known.get(found[1], ""), template))
