"""PagerDuty, by the Events API v2: ``trigger`` and ``resolve`` under one deduplication key, the ``alert_id``.

https://developer.pagerduty.com/docs/events-api-v2/trigger-events/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SecretStr

from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.texts import cut, legible
from funnelwatch.sinks.alerts.bound import Bound
from funnelwatch.sinks.alerts.delivery import DeliveryResult, post_json
from funnelwatch.sinks.alerts.receiver import Address, Key, Receiver
from funnelwatch.sinks.alerts.texts import annotation, details, headline, link, moment, summary

if TYPE_CHECKING:
    from collections.abc import Mapping

Severity = Literal["critical", "error", "warning", "info"]

SUMMARY_CHARACTERS = 1024
"""PagerDuty rejects longer summaries."""

ANNOTATIONS = 20


class PagerDuty(Receiver):
    """One service of PagerDuty."""

    kind: Literal["pagerduty"]
    routing_key: Key = Field(description="the integration key of a service, such as ${PAGERDUTY_KEY}")
    url: Address = Field(
        SecretStr("https://events.pagerduty.com/v2/enqueue"),
        description="an address such as https://events.eu.pagerduty.com/v2/enqueue",
    )
    severities: dict[str, Severity] = Field(
        {}, description="a map from a rule's severity to critical, error, warning or info"
    )

    @property
    def is_repeatable(self) -> bool:
        """See the base. PagerDuty identifies an incident by the deduplication key."""
        return True

    def deliver(self, alert: Mapping[str, Any], previous: Mapping[str, Any] | None, now_ms: int) -> DeliveryResult:
        """See the base. A repeated message updates the same incident."""
        return post_json(self.url, self.event(alert), Bound(self.timeout))

    def event(self, alert: Mapping[str, Any]) -> dict[str, Any]:
        """The event of a message."""
        event: dict[str, Any] = {"routing_key": revealed(self.routing_key), "dedup_key": alert["alert_id"]}
        if alert["state"] == "resolved":
            return {**event, "event_action": "resolve"}
        event |= {
            "event_action": "trigger",
            "payload": {
                "summary": cut(" ".join(f"{headline(alert)}: {summary(alert)}".split()), SUMMARY_CHARACTERS),
                "source": f"funnelwatch/{legible(alert['funnel'])}",
                "severity": self._severity(alert["severity"]),
                "timestamp": moment(alert["started_at"]),
                "component": legible(alert["step"]),
                "group": legible(alert["funnel"]),
                "class": legible(alert["rule"]),
                "custom_details": {**self._annotations(alert), **details(alert)},
            },
            "client": "funnelwatch",
        }
        if link(alert):
            event |= {"client_url": link(alert), "links": [{"href": link(alert), "text": "Dashboard"}]}
        return event

    @staticmethod
    def _annotations(alert: Mapping[str, Any]) -> dict[str, str]:
        """The annotations, limited in number and length: PagerDuty accepts half a megabyte."""
        return {legible(name): annotation(alert, name) for name in list(alert["annotations"])[:ANNOTATIONS]}

    def _severity(self, severity: str) -> Severity:
        known: dict[str, Severity] = {"critical": "critical", "warning": "warning", "info": "info"}
        return (known | self.severities).get(severity, "error")
