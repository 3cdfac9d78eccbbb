"""Slack, by an incoming webhook. https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from sinks.alerts.answer import Answer, post_json
from sinks.alerts.kind import Address, Kind
from sinks.alerts.texts import cut, details, headline, link, summary

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER_CHARACTERS = 150
SECTION_CHARACTERS = 3_000
FIELD_CHARACTERS = 2_000
FIELDS = 10
"""What Slack takes at most (block kit reference)."""


class Slack(Kind):
    """One channel, which the webhook's address stands for."""

    kind: Literal["slack"]
    url: Address = Field(
        description="the webhook's address, such as ${SLACK_URL}, which begins with https://hooks.slack.com/services/"
    )

    def deliver(self, alert: Mapping[str, Any], previous: Mapping[str, Any] | None, now_ms: int) -> Answer:
        """See the base. Slack knows no key: a notifier killed at the wrong moment shows a message twice."""
        return post_json(self.url, message(alert), self.timeout)


def message(alert: Mapping[str, Any]) -> dict[str, Any]:
    """The message's text, for notifications, and its blocks."""
    mark = "✅" if alert["state"] == "resolved" else "🔴" if alert["severity"] == "critical" else "🟠"
    told = [escaped(summary(alert)), *(escaped(text) for text in [alert["annotations"].get("look_first", "")] if text)]
    if link(alert):
        told.append(f"<{escaped(link(alert)).replace('|', '%7C')}|Dashboard>")
    fields = [f"*{name}*\n{escaped(value)}" for name, value in details(alert).items()]
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": cut(f"{mark} {headline(alert)}", HEADER_CHARACTERS)}},
        {"type": "section", "text": {"type": "mrkdwn", "text": cut("\n".join(told), SECTION_CHARACTERS)}},
        {
            "type": "section",
            "fields": [{"type": "mrkdwn", "text": cut(field, FIELD_CHARACTERS)} for field in fields[:FIELDS]],
        },
    ]
    return {"text": cut(escaped(headline(alert)), SECTION_CHARACTERS), "blocks": blocks}


def escaped(text: str) -> str:
    """What Slack would take for its own marks (links, mentions), made plain."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
