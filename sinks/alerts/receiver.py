"""The base of every receiver: its name, its filters, and the contract of a delivery."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence  # noqa: TC003
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator

from funnelwatch.alert_rules.model import Severity  # noqa: TC001 - pydantic looks at it
from funnelwatch.schemas.dimensions import check_dimension_name
from funnelwatch.schemas.file_errors import FilePart
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
    """The address, if it is one of http or https; a secret, since anybody who knows a webhook's address can send to it.

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
    """The values, if none is repeated; the message does not show a value, since it may be a secret.

    Raises:
        ValueError: one does.
    """
    for number, value in enumerate(values):
        if value in values[:number]:
            raise ValueError(f"number {number + 1} is repeated")
    return values


Filter = (BeforeValidator(listed), AfterValidator(some), AfterValidator(each_once))
"""One value, or a list of distinct values; an empty list is ambiguous and is rejected."""


def secret(value: SecretStr) -> SecretStr:
    """A secret; no text shows it from now on.

    Raises:
        ValueError: it is empty.
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

DimensionName = Annotated[str, AfterValidator(check_dimension_name), Field(description="a dimension such as os")]

Names = Annotated[list[Text], *Filter]
"""One name, or a list of them."""

Span = Annotated[float, BeforeValidator(seconds)]
"""A span such as 30s or 5m, in seconds."""


class When(FilePart):
    """Filters: which alerts a route sends; a filter that is left out matches every alert."""

    severity: Annotated[list[Severity], *Filter] = Field([], description="critical, warning or info, or a list of them")
    rule: Names = Field([], description="names of rules")
    funnel: Names = Field([], description="names of funnels")
    step: Names = Field([], description="names of steps; an alert about several steps fits by any of them")
    dimensions: Annotated[dict[DimensionName, Names], AfterValidator(some)] = Field(
        {}, description="a map such as {os: [iOS, Android]}"
    )
    state: Annotated[list[Literal["firing", "resolved"]], *Filter] = Field([], description="firing, resolved, or both")


class Receiver(FilePart):
    """A route of the file: which alerts go where.

    **The contract of a delivery**, tested for every receiver (``tests/unit/test_receiver_contract.py``):

    - ``deliver`` returns within ``timeout`` plus a second, whatever the other side does.
    - ``deliver`` raises for a bug only, never for an error of the other side or of the network.
    - A failed delivery leaves nothing behind here. Its outcome says whether the other side may have the message:
      ``LATER`` and ``REJECTED`` mean that it has not, ``UNANSWERED`` that it may.
    - A repeated message is harmless, or carries a key by which the other side recognizes it (``docs/notify.md``).
    - No text of a result shows a secret.
    """

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
        """Period of reminders of all firing alerts, s; None: never."""
        return None

    @property
    def wants_only_resolved(self) -> bool:
        """Whether its filters include resolved messages only, so that no firing message comes before one."""
        return self.when.state == ["resolved"]

    @property
    def is_repeatable(self) -> bool:
        """Whether the other side shows a repeated message once, since it recognizes the key."""
        return False

    @abstractmethod
    def deliver(self, alert: Mapping[str, Any], previous: Mapping[str, Any] | None, now_ms: int) -> DeliveryResult:
        """Send one message; see the contract above.

        At least once: a notifier that is killed between sending a message and recording that sends it again.

        Args:
            alert: the message, of the Alert schema.
            previous: the message about the same alert that this route sent before; None: there is none.
            now_ms: the wall clock, ms.
        """

    def remind(self, alerts: Sequence[Mapping[str, Any]], now_ms: int) -> DeliveryResult:
        """Repeat that these alerts fire; called only where there is a ``resend_s``."""
        raise NotImplementedError
