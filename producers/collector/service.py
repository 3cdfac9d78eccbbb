"""Delivers checked events to Kafka and reports the outcome of each."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from funnelwatch.producers.collector.intake import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.producers.collector.delivery import Delivery, Message
    from funnelwatch.producers.collector.metrics import CollectorMetrics
    from funnelwatch.producers.collector.turns import Turns

logger = logging.getLogger("funnelwatch.collector")

Checked = dict[str, Any]
Outcome = Literal["accepted", "rejected", "undelivered"]


class EventResult(BaseModel):
    """The outcome of one event."""

    index: int = Field(description="Its place in the request, from 0.")
    outcome: Outcome = Field(
        description="accepted: Kafka has it; rejected: it is invalid; undelivered: send it again, with this event_id."
    )
    event_id: str | None = Field(None, description="Its id, also where the request gave none.")
    field: str | None = Field(None, description="The invalid field.")
    message: str | None = Field(None, description="The error and its remedy.")


class BatchResult(BaseModel):
    """The outcomes of the events of a request."""

    accepted: int
    rejected: int
    undelivered: int
    events: list[EventResult] = Field(description="In the order of the request.")

    @property
    def status(self) -> int:
        """HTTP status: 503 for undelivered events, 400 for rejected events, else 200."""
        return 503 if self.undelivered else 400 if self.rejected else 200


LONGEST_MESSAGE = 300
"""Characters of a message on one event: it quotes the request."""


async def deliver(
    delivery: Delivery,
    turns: Turns,
    metrics: CollectorMetrics,
    *,
    way: str,
    checked: Sequence[Checked | Invalid],
    most_bytes: int,
) -> BatchResult:
    """Deliver the valid events, and report the outcome of each event.

    Args:
        delivery: to Kafka.
        turns: for the work of encoding.
        metrics: counts outcomes.
        way: how the events came, a label of the metrics.
        checked: whole events and samples (which have a kind), or the error of an invalid one.
        most_bytes: the workers reject larger events.
    """
    results: list[EventResult] = []
    sent: list[EventResult] = []
    messages: list[Message] = []

    def encode(one: Checked | Invalid) -> tuple[Checked, Message] | Invalid:
        return (
            one if isinstance(one, Invalid) else (one, delivery.metric(one) if "kind" in one else delivery.event(one))
        )

    for index, encoded in enumerate(await turns.map(encode, checked)):
        if isinstance(encoded, Invalid):
            results.append(_rejected(index, encoded))
            continue
        one, message = encoded
        size = len(message.value or b"")
        if size > most_bytes:
            wrong = Invalid("contexts", f"the event has {size} bytes, more than {most_bytes}")
            results.append(_rejected(index, wrong, one["event_id"]))
            continue
        results.append(EventResult(index=index, outcome="accepted", event_id=one["event_id"]))
        sent.append(results[-1])
        messages.append(message)
    began = time.monotonic()
    for event, error in zip(sent, await delivery.deliver(messages), strict=True):
        if error is not None:
            event.outcome, event.message = "undelivered", error
    metrics.delivery_seconds.observe(time.monotonic() - began)
    counts = dict.fromkeys(("accepted", "rejected", "undelivered"), 0)
    for event in results:
        counts[event.outcome] += 1
    for outcome, count in counts.items():
        metrics.events.labels(way, outcome).inc(count)
    if counts["undelivered"]:
        logger.warning("Kafka has not acknowledged %d events: %s", counts["undelivered"], _first(results))
    return BatchResult(**counts, events=results)


def _rejected(index: int, invalid: Invalid, event_id: str | None = None) -> EventResult:
    field, message = _cut(invalid.field), _cut(invalid.message)
    return EventResult(index=index, outcome="rejected", event_id=event_id, field=field, message=message)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"


def _first(results: Sequence[EventResult]) -> str:
    return next(one.message or "" for one in results if one.outcome == "undelivered")
