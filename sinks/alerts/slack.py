"""Slack, by an incoming webhook. https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks ."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from funnelwatch.schemas.texts import cut
from funnelwatch.sinks.alerts.bound import Bound
from funnelwatch.sinks.alerts.delivery import DeliveryResult, post_json
from funnelwatch.sinks.alerts.receiver import Address, Receiver
from funnelwatch.sinks.alerts.texts import annotation, details, headline, link, summary

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER_CHARACTERS = 150
SECTION_CHARACTERS = 3_000
FIELD_CHARACTERS = 2_000
FIELDS = 10
"""Slack's limits (block kit reference)."""

MENTION = re.compile("(@(?=channel|here|everyone|group)|<(?=[!@#]))", re.IGNORECASE)


class Slack(Receiver):
    """One channel, which the webhook's address names."""

    kind: Literal["slack"]
    url: Address = Field(
        description="the webhook's address, such as ${SLACK_URL}, which begins with https://hooks.slack.com/services/"
    )

    def deliver(self, alert: Mapping[str, Any], previous: Mapping[str, Any] | None, now_ms: int) -> DeliveryResult:
        """See the base. Slack knows no key: a message that is sent twice is shown twice."""
        return post_json(self.url, message(alert), Bound(self.timeout))


def message(alert: Mapping[str, Any]) -> dict[str, Any]:
    """The message's text, for notifications, and its blocks.

    Texts from events and rules are plain text, in which Slack finds no mentions, links or formats.
    """
    mark = "✅" if alert["state"] == "resolved" else "🔴" if alert["severity"] == "critical" else "🟠"
    body = "\n".join(filter(None, [summary(alert), annotation(alert, "look_first")]))
    fields = [f"{name}\n{value}" for name, value in details(alert).items()]
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": plain(f"{mark} {headline(alert)}", HEADER_CHARACTERS)},
        {"type": "section", "text": plain(body, SECTION_CHARACTERS)},
        {"type": "section", "fields": [plain(field, FIELD_CHARACTERS) for field in fields[:FIELDS]]},
    ]
    if link(alert):
        target = escaped(link(alert)).replace("|", "%7C")
        blocks.insert(2, {"type": "section", "text": {"type": "mrkdwn", "text": f"<{target}|Dashboard>"}})
    # Slack reads the text beside blocks as markup: escape it, and switch formats off.
    return {"text": cut(escaped(headline(alert)), SECTION_CHARACTERS), "mrkdwn": False, "blocks": blocks}


def plain(text: str, length: int) -> dict[str, Any]:
    """A text that Slack shows unchanged."""
    return {"type": "plain_text", "text": cut(unmarked(text), length), "emoji": False}


def escaped(text: str) -> str:
    """The text with Slack's markup (links, mentions) escaped."""
    return unmarked(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unmarked(text: str) -> str:
    """The text without mentions, also for clients that read plain text as Slack's markup; looks the same."""
    return MENTION.sub("\\1\N{WORD JOINER}", text)
