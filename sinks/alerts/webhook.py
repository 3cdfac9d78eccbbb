"""Any HTTP endpoint: the alert as JSON, signed so that whoever receives it can tell who said it, and when.

The signature is HMAC-SHA256 over ``TIMESTAMP.BODY`` in the header ``Funnelwatch-Signature: t=TIMESTAMP,v1=HEX``, the
timestamp being Unix seconds of the attempt: a receiver that refuses old ones cannot be fooled by a replay.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SecretStr

from schemas.redaction import revealed
from sinks.alerts.answer import Answer, post
from sinks.alerts.kind import Address, Kind, Secret
from sinks.alerts.texts import headline, link

if TYPE_CHECKING:
    from collections.abc import Mapping

SIGNATURE = "Funnelwatch-Signature"
DELIVERY = "Funnelwatch-Delivery"
"""Header with ``ALERT_ID/SEQUENCE``: the same however often a message is sent, to know it again by."""


class Webhook(Kind):
    """One endpoint."""

    kind: Literal["webhook"]
    url: Address = Field(description="an address such as https://host/path")
    secret: Secret = Field(
        SecretStr(""), description="what both sides know, such as ${WEBHOOK_SECRET}; empty: not signed"
    )
    headers: dict[str, Secret] = Field({}, description="a map of more headers")

    def deliver(self, alert: Mapping[str, Any], previous: Mapping[str, Any] | None, now_ms: int) -> Answer:
        """See the base."""
        document = {"version": 1, "headline": headline(alert), "link": link(alert), "alert": dict(alert)}
        body = json.dumps(document, separators=(",", ":")).encode()
        own = {name: revealed(value) for name, value in self.headers.items()}
        headers = {**own, DELIVERY: f"{alert['alert_id']}/{alert['sequence']}"}
        if self.secret:
            headers[SIGNATURE] = signature(revealed(self.secret), now_ms // 1000, body)
        return post(self.url, body, self.timeout, headers)


def signature(secret: str, timestamp_s: int, body: bytes) -> str:
    """The header's value for a body that is sent at that time."""
    digest = hmac.new(secret.encode(), f"{timestamp_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp_s},v1={digest}"
