"""The file of a bridge: which apps are asked, and what their counters mean here.

::

    targets:
      - name: web
        url: http://web:8000/metrics
        every: 5s
        maps:
          - metric: signup_step_shown_total
            event: {phase: IMPRESSION, step: "{step}", os: "{platform|unknown}"}
          - metric: signup_step_judged_total
            where: {result: ok}
            event: {phase: POST_VERIFICATION, status: SUCCESS, step: "{step}", os: "{platform|unknown}"}
          - metric: sms_sent_total
            counter: {name: sms_sent, dimensions: {os: "{platform}"}}

``{label}`` stands for the value of a label, ``{label|other}`` for it or, where it is missing or empty, the other text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.metrics import DIMENSION, NAME
from funnelwatch.schemas.plain_values import a_text, in_words
from funnelwatch.schemas.times import parse_span_ms
from funnelwatch.schemas.web_client import without_login
from funnelwatch.schemas.yaml_files import YamlFileError, line_of, parse_yaml, place_of, plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LABEL = re.compile(r"\{(\w+)(?:\|([^}]*))?\}")


class BridgeFileError(FunnelwatchError, ValueError):
    """The file of a bridge cannot be used; the message is for the person who wrote it."""


def _seconds(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no span of time; right would be 5s or 1m")  # noqa: TRY004 - pydantic's own
    return parse_span_ms(value) / 1000


def _address(value: SecretStr) -> SecretStr:
    try:
        without_login(value)
    except ValueError:
        raise ValueError("is no address of the web, such as http://web:8000/metrics") from None
    return value


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _template(value: str) -> str:
    rest = LABEL.sub("", value)
    if "{" in rest or "}" in rest:
        raise ValueError(f"{value!r} has braces that are not a label; right would be like '{{platform}}'")
    return a_text(value)


Template = Annotated[str, AfterValidator(_template)]
"""A text with labels in it."""


class EventOf(_Checked):
    """The event that an increment of one stands for."""

    phase: Literal["IMPRESSION", "POST_VERIFICATION"]
    status: Literal["SUCCESS", "FAILURE"] | None = None
    funnel: Template = "sign_up"
    step: Template
    os: Template
    browser: Template = ""
    app_version: Template = ""

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if (self.phase == "POST_VERIFICATION") != (self.status is not None):
            raise ValueError("status: a POST_VERIFICATION has one, SUCCESS or FAILURE, and an IMPRESSION has none")
        return self


def _name(value: str) -> str:
    if not NAME.fullmatch(LABEL.sub("x", value)):
        raise ValueError(f"{value!r} is not the name of a counter; right would be letters, digits, '_' and ':'")
    return value


class CounterOf(_Checked):
    """The counter that an increment is added to."""

    name: Annotated[Template, AfterValidator(_name)]
    dimensions: dict[Annotated[str, Field(pattern=f"^{DIMENSION.pattern}$")], Template] = {}


class Map(_Checked):
    """What the increments of one metric's series mean."""

    metric: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    where: dict[str, str] = {}
    event: EventOf | None = None
    counter: CounterOf | None = None

    @model_validator(mode="after")
    def _one_meaning(self) -> Self:
        if (self.event is None) == (self.counter is None):
            raise ValueError("event: a map has either an event or a counter")
        return self

    def fits(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a series is meant."""
        return name == self.metric and all(labels.get(label) == value for label, value in self.where.items())


class Target(_Checked):
    """One app."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    url: Annotated[SecretStr, AfterValidator(_address)]
    every: Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=86_400)] = 5.0
    timeout: Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=3_600)] = 4.0
    maps: Annotated[list[Map], Field(min_length=1)]


class BridgeFile(_Checked):
    """The whole file."""

    targets: Annotated[list[Target], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [target.name for target in self.targets]
        if len(set(names)) < len(names):
            raise ValueError("targets: two have the same name, by which their states are kept apart")
        return self


def load_targets(path: Path) -> list[Target]:
    """The targets of a file.

    Raises:
        BridgeFileError: ``file:line: field: what is wrong``.
    """
    try:
        document = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise BridgeFileError(f"{path}: cannot be read: {error}") from error
    except YamlFileError as error:
        raise BridgeFileError(str(error)) from error
    try:
        return BridgeFile.model_validate(plain(document)).targets
    except ValidationError as error:
        fault = error.errors()[0]
        loc, message = list(fault["loc"]), in_words(fault["msg"])
        if fault["type"] == "value_error" and ": " in message:  # said by a model about one of its fields
            field, _, message = message.partition(": ")
            loc.append(field)
        loc = [part for part in loc if part != "[key]"]
        if fault["type"] == "extra_forbidden":
            message = "is not a known field"
        if "right would be" not in message:
            known = next((RIGHT[part] for part in reversed(loc) if isinstance(part, str) and part in RIGHT), None)
            message = f"{message}; right would be {known or RIGHT['targets']}"
        raise BridgeFileError(f"{path}:{line_of(document, loc)}: {place_of(loc) or 'file'}: {message}") from None


RIGHT = {
    "targets": "a list such as [{name: web, url: http://web:8000/metrics, maps: [...]}], with every and timeout",
    "name": "a name of letters, digits, '.', '_' and '-', each once",
    "url": "an address such as http://web:8000/metrics",
    "every": "a span such as 5s, up to 1d",
    "timeout": "a span such as 4s, up to 1h",
    "maps": "a list such as [{metric: shown_total, event: {phase: IMPRESSION, step: '{step}', os: iOS}}]",
    "metric": "a metric's name as it stands on the page",
    "where": "a map of labels to texts, such as {env: prod}",
    "event": "a map with phase, status, funnel, step, os, browser and app_version",
    "counter": "a map such as {name: sms_sent, dimensions: {os: '{platform}'}}",
    "phase": "IMPRESSION or POST_VERIFICATION",
    "status": "SUCCESS or FAILURE",
    "dimensions": "a map of names to texts, such as {os: '{platform}'}",
}


def filled(text: str, labels: Mapping[str, str]) -> str:
    """A text with the values of labels in it."""
    return LABEL.sub(lambda found: labels.get(found[1]) or found[2] or "", text)
