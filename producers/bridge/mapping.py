"""The file of a bridge: the apps to scrape, and the events and counters that their metrics stand for.

::

    targets:
      - name: web
        url: http://web:8000/metrics
        every: 5s
        maps:
          - metric: signup_step_shown_total
            event: {phase: IMPRESSION, step: "{step}", os: "{platform|unknown}", contexts: {country: "{country}"}}
          - metric: signup_step_verified_total
            where: {result: ok}
            event: {phase: POST_VERIFICATION, status: SUCCESS, step: "{step}", os: "{platform|unknown}"}
          - metric: sms_sent_total
            counter: {name: sms_sent, dimensions: {os: "{platform}"}}

``{label}`` stands for the value of a label; ``{label|other}`` for the other text where the label is missing or empty.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from funnelwatch.schemas.dimensions import DIMENSION_NAME
from funnelwatch.schemas.errors import FileError
from funnelwatch.schemas.file_errors import FilePart
from funnelwatch.schemas.metrics import DIMENSION, NAME
from funnelwatch.schemas.plain_values import a_text
from funnelwatch.schemas.times import parse_span_ms
from funnelwatch.schemas.web_client import without_login
from funnelwatch.schemas.yaml_files import Document

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LABEL = re.compile(r"\{(\w+)(?:\|([^}]*))?\}")


class BridgeFileError(FileError):
    """The file of a bridge is rejected."""


def _seconds(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a span of time")  # noqa: TRY004 - pydantic turns ValueErrors into its own
    try:
        return parse_span_ms(value) / 1000
    except ValueError as error:
        raise ValueError(str(error).partition(";")[0]) from None


def _address(value: SecretStr) -> SecretStr:
    try:
        without_login(value)
    except ValueError:
        raise ValueError("is not an address of http or https") from None
    return value


def _template(value: str) -> str:
    rest = LABEL.sub("", value)
    if "{" in rest or "}" in rest:
        raise ValueError(f"{value!r} has braces that are not a label; right would be like '{{platform}}'")
    return a_text(value)


def _counter_name(value: str) -> str:
    if not NAME.fullmatch(LABEL.sub("x", value)):
        raise ValueError(f"{value!r} is not the name of a counter")
    return value


Template = Annotated[str, AfterValidator(_template)]
"""A text with labels in it."""

Span = Annotated[float, BeforeValidator(_seconds)]
"""A span of time, in seconds."""

DimensionName = Annotated[str, Field(pattern=f"^{DIMENSION.pattern}$")]
EventDimensionName = Annotated[str, Field(pattern=f"^{DIMENSION_NAME.pattern}$")]


class EventOf(FilePart):
    """The event that one increment stands for."""

    phase: Literal["IMPRESSION", "POST_VERIFICATION"] = Field(description="IMPRESSION or POST_VERIFICATION")
    status: Literal["SUCCESS", "FAILURE"] | None = Field(None, description="SUCCESS or FAILURE")
    funnel: Template = Field("sign_up", description="the name of a funnel, such as sign_up")
    step: Template = Field(description="a step such as '{step}'")
    os: Template = Field(description="an os such as '{platform|unknown}'")
    browser: Template = Field("", description="a browser such as '{browser}'")
    app_version: Template = Field("", description="an app version such as '{version}', in quotes")
    contexts: dict[EventDimensionName, Template] = Field(
        {}, description="a map of further dimensions to texts, such as {country: '{country}'}"
    )

    @model_validator(mode="after")
    def _status_of_a_verification(self) -> Self:
        if (self.phase == "POST_VERIFICATION") != (self.status is not None):
            raise ValueError("status: a POST_VERIFICATION has one, and an IMPRESSION has none")
        return self


class CounterOf(FilePart):
    """The counter that an increment is added to."""

    name: Annotated[Template, AfterValidator(_counter_name)] = Field(
        description="a name of letters, digits, '_' and ':', such as sms_sent"
    )
    dimensions: dict[DimensionName, Template] = Field(
        {}, description="a map of names to texts, such as {os: '{platform}'}"
    )


class Map(FilePart):
    """The event or counter that the increments of one metric's series stand for."""

    metric: str = Field(pattern=f"^{NAME.pattern}$", description="a metric's name as it stands on the page")
    where: dict[str, str] = Field({}, description="a map of labels to texts, such as {env: prod}")
    event: EventOf | None = Field(
        None, description="a map with phase, status, funnel, step, os, browser, app_version, contexts"
    )
    counter: CounterOf | None = Field(
        None, description="a map such as {name: sms_sent, dimensions: {os: '{platform}'}}"
    )

    @model_validator(mode="after")
    def _one_meaning(self) -> Self:
        if (self.event is None) == (self.counter is None):
            raise ValueError("event: a map has either an event or a counter")
        return self

    def fits(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether the map is about a series."""
        return name == self.metric and all(labels.get(label) == value for label, value in self.where.items())


class Target(FilePart):
    """One app."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="a name of letters, digits, '.', '_' and '-', each once"
    )
    url: Annotated[SecretStr, AfterValidator(_address)] = Field(
        description="an address such as http://web:8000/metrics"
    )
    every: Span = Field(5.0, gt=0, le=86_400, description="a span such as 5s, up to 1d")
    timeout: Span = Field(4.0, gt=0, le=3_600, description="a span such as 4s, up to 1h")
    maps: list[Map] = Field(
        min_length=1,
        description="a list such as [{metric: shown_total, event: {phase: IMPRESSION, step: '{step}', os: iOS}}]",
    )


class BridgeFile(FilePart):
    """The whole file."""

    targets: list[Target] = Field(
        min_length=1,
        description="a list such as [{name: web, url: http://web:8000/metrics, maps: [...]}], each with its own name",
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [target.name for target in self.targets]
        if len(set(names)) < len(names):
            raise ValueError("targets: two have the same name, by which their states are kept apart")
        return self


def load_targets(path: Path) -> list[Target]:
    """The targets of a file.

    Raises:
        BridgeFileError: ``file:line: field: what is wrong; right would be …``.
    """
    return Document.read(path, BridgeFileError, shows_values=False).validated(BridgeFile).targets


def filled(text: str, labels: Mapping[str, str]) -> str:
    """The text with its labels filled in."""
    return LABEL.sub(lambda found: labels.get(found[1]) or found[2] or "", text)
