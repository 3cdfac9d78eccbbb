"""What every kind of route has in common: its name, its filters, and the contract of delivering."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence  # noqa: TC003
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator

from funnelwatch.alert_rules.model import Severity  # noqa: TC001 - pydantic looks at it
from funnelwatch.schemas.plain_values import Text, a_line, some
from funnelwatch.schemas.redaction import know, know_address, revealed
from funnelwatch.schemas.times import parse_span_ms
from funnelwatch.schemas.web_client import without_login

if TYPE_CHECKING:
    from funnelwatch.sinks.alerts.delivery import DeliveryResult

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def listed(value: Any) -> Any:
    """One text as a list of it; anything else as it is."""
    return [value] if isinstance(value, str) else value


def seconds(value: Any) -> Any:
    """A span's text in seconds.

    Raises:
        ValueError: it is none; a number without a unit could be anything.
    """
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a span of time")  # noqa: TRY004 - pydantic turns it into its own
    try:
        return parse_span_ms(value) / 1000
    except ValueError as error:
        raise ValueError(str(error).partition(";")[0]) from None


def address(value: SecretStr) -> SecretStr:
    """The address, if it is one of http or https; whoever knows a webhook's address can send to it.

    Raises:
        ValueError: it is not.
    """
    text = revealed(value)
    try:
        urlsplit(text).port  # noqa: B018 - raises
    except ValueError:
        raise ValueError("has a port that is none") from None
    try:
        without_login(text)
    except ValueError:
        raise ValueError("is not a web address") from None
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("has a space, a line break or a character that an address writes as %XX")
    know_address(value, whole=True)
    return value


def each_once(values: list[Any]) -> list[Any]:
    """The values, if none stands twice; the message does not repeat one, since it may be a secret.

    Raises:
        ValueError: one does.
    """
    for number, value in enumerate(values):
        if value in values[:number]:
            raise ValueError(f"number {number + 1} stands there before")
    return values


Filter = (BeforeValidator(listed), AfterValidator(some), AfterValidator(each_once))
"""One value, or a list of them, each once; an empty list would fit nothing, or anything."""


def secret(value: SecretStr) -> SecretStr:
    """A secret, which no text shows from now on.

    Raises:
        ValueError: it is empty: an empty secret is none.
    """
    some(revealed(value))
    know(value)
    return value


def key(value: SecretStr) -> SecretStr:
    """A secret of one line.

    Raises:
        ValueError: it is not.
    """
    a_line(revealed(value))
    return secret(value)


Address = Annotated[SecretStr, AfterValidator(address)]
"""An address of the web, which may be a secret."""

Secret = Annotated[SecretStr, AfterValidator(secret)]
"""A password or header."""

Key = Annotated[SecretStr, AfterValidator(key)]
"""A key of one line."""

Names = Annotated[list[Text], *Filter]
"""One name, or a list of them."""

Span = Annotated[float, BeforeValidator(seconds)]
"""A span such as 30s or 5m, in seconds."""


class Checked(BaseModel):
    """A part of the file: what nobody reads is rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class When(Checked):
    """Which alerts a route tells; what is not named is not asked for."""

    severity: Annotated[list[Severity], *Filter] = Field([], description="critical, warning or info, or a list of them")
    rule: Names = Field([], description="names of rules")
    funnel: Names = Field([], description="names of funnels")
    step: Names = Field([], description="names of steps; an alert about several steps fits by any of them")
    dimensions: Annotated[dict[Literal["os", "browser", "app_version"], Names], AfterValidator(some)] = Field(
        {}, description="a map such as {os: [iOS, Android]}"
    )
    state: Annotated[list[Literal["firing", "resolved"]], *Filter] = Field([], description="firing, resolved, or both")


class Receiver(Checked):
    """One route: where and which alerts are told."""

    name: str = Field(description="a name of its own, such as on-call")
    when: When = Field(When(), description="a map of filters such as {severity: critical}")
    timeout: Span = Field(
        10.0,
        gt=0,
        le=20,
        description="a span such as 10s, at most 20s: for a whole delivery, whatever the receiver does",
    )
    give_up_after: Span = Field(86_400.0, gt=0, le=366 * 86_400, description="a span such as 24h")

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("may have letters, digits, '.', '_' and '-' only")
        return name

    @property
    def resend_s(self) -> float | None:
        """How often everything that fires is said again, s; None: never."""
        return None

    @property
    def tells_resolved_alone(self) -> bool:
        """Whether its filters want nothing but that alerts resolved, so that no firing message ever comes before."""
        return self.when.state == ["resolved"]

    @property
    def is_repeatable(self) -> bool:
        """Whether the receiver takes a repeated message for the same one, so that nobody sees it twice."""
        return False

    @abstractmethod
    def deliver(self, alert: Mapping[str, Any], previous: Mapping[str, Any] | None, now_ms: int) -> DeliveryResult:
        """Say one message within ``timeout``; never raises for what the other side does.

        Saying it again is harmless or recognizable by a key (`docs/notify.md`): a notifier that is killed between
        sending and noting that it did says it again.

        Args:
            alert: the message, of the Alert schema.
            previous: the message about the same alert that this route said before; None: the first.
            now_ms: the wall clock, ms.
        """

    def remind(self, alerts: Sequence[Mapping[str, Any]], now_ms: int) -> DeliveryResult:
        """Say again that these fire; only where there is a ``resend_s``."""
        raise NotImplementedError
