"""Any HTTP endpoint: the alert as JSON, signed, so that the receiver can verify the sender and the time.

The signature is HMAC-SHA256 over ``TIMESTAMP.BODY`` in the header ``Funnelwatch-Signature: t=TIMESTAMP,v1=HEX``, the
timestamp being Unix seconds of the attempt. A receiver that rejects old timestamps is safe from replays.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

from pydantic import AfterValidator, Field, SecretStr

from funnelwatch.schemas.redaction import know_config, revealed
from funnelwatch.schemas.texts import legible
from funnelwatch.sinks.alerts.bound import Bound
from funnelwatch.sinks.alerts.delivery import DeliveryResult, post
from funnelwatch.sinks.alerts.receiver import Address, Receiver, Secret
from funnelwatch.sinks.alerts.texts import headline, link

if TYPE_CHECKING:
    from collections.abc import Mapping

SIGNATURE = "Funnelwatch-Signature"
DELIVERY = "Funnelwatch-Delivery"
"""Header with ``ALERT_ID/SEQUENCE``, the same however often a message is sent."""


HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
OWN = frozenset({"content-length", "content-type", "host", "transfer-encoding", DELIVERY.lower(), SIGNATURE.lower()})


def _headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    """The headers, if HTTP can carry them (RFC 9110, 5.5 and 5.6.2).

    Raises:
        ValueError: HTTP cannot carry one, or funnelwatch sets it itself.
    """
    for name, secret in headers.items():
        value = revealed(secret)
        if not HEADER.fullmatch(name):
            raise ValueError(f"{legible(name)} is not the name of a header")
        if name.lower() in OWN:
            raise ValueError(f"{name} is set by funnelwatch itself")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"{name} has a line break or another character that a header cannot carry")
    know_config(headers)  # a receiver may repeat the token of "Bearer TOKEN" without its scheme
    return headers


class Webhook(Receiver):
    """One endpoint."""

    kind: Literal["webhook"]
    url: Address = Field(description="an address such as https://host/path")
    secret: Secret = Field(
        SecretStr(""), description="what both sides know, such as ${WEBHOOK_SECRET}; without it nothing is signed"
    )
    headers: Annotated[dict[str, Secret], AfterValidator(_headers)] = Field(
        {}, description="a map of more headers, such as {X-Team: growth}"
    )

    def deliver(self, alert: Mapping[str, Any], previous: Mapping[str, Any] | None, now_ms: int) -> DeliveryResult:
        """See the base."""
        document = {"version": 1, "headline": headline(alert), "link": link(alert), "alert": dict(alert)}
        body = json.dumps(document, separators=(",", ":")).encode()
        own = {name: revealed(value) for name, value in self.headers.items()}
        headers = {**own, DELIVERY: f"{quote(alert['alert_id'], errors='replace')}/{alert['sequence']}"}
        if self.secret:
            headers[SIGNATURE] = signature(revealed(self.secret), now_ms // 1000, body)
        return post(self.url, body, Bound(self.timeout), headers)


def signature(secret: str, timestamp_s: int, body: bytes) -> str:
    """The signature's header for a body that is sent at that time."""
    digest = hmac.new(secret.encode(), f"{timestamp_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp_s},v1={digest}"
