"""From checked events to an answer that names each of them."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from funnelwatch.producers.collector.intake import Fault
from funnelwatch.producers.collector.metrics import DELIVERY_SECONDS, EVENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.producers.collector.delivery import Delivery, Message
    from funnelwatch.producers.collector.turns import Turns

logger = logging.getLogger("funnelwatch.collector")

Checked = dict[str, Any]
Outcome = Literal["accepted", "rejected", "undelivered"]


class EventAnswer(BaseModel):
    """What became of one event."""

    index: int = Field(description="Its place in the request, from 0.")
    outcome: Outcome = Field(
        description="accepted: Kafka has it; rejected: it is wrong; undelivered: send it again, with this event_id."
    )
    event_id: str | None = Field(None, description="Its id, also where the request gave none.")
    field: str | None = Field(None, description="The field that is wrong.")
    message: str | None = Field(None, description="What is wrong, and what would be right.")


class Answer(BaseModel):
    """What became of the events of a request."""

    accepted: int
    rejected: int
    undelivered: int
    events: list[EventAnswer] = Field(description="In the order of the request.")

    @property
    def status(self) -> int:
        """Of HTTP: 503 where something has to be sent again, 400 where something was rejected, else 200."""
        return 503 if self.undelivered else 400 if self.rejected else 200


LONGEST_MESSAGE = 300
"""Characters of what an answer says of one event: it quotes what was sent."""


async def answer(
    delivery: Delivery, turns: Turns, way: str, checked: Sequence[Checked | Fault], most_bytes: int
) -> Answer:
    """Deliver the good ones, and say what became of each.

    Args:
        delivery: to Kafka.
        turns: for the work of encoding.
        way: how they came, for the metrics.
        checked: whole events and samples (which have a kind), or what is wrong with them.
        most_bytes: a larger event would be rejected by the workers.
    """
    answers: list[EventAnswer] = []
    sent: list[EventAnswer] = []
    messages: list[Message] = []

    def encode(one: Checked | Fault) -> tuple[Checked, Message] | Fault:
        return one if isinstance(one, Fault) else (one, delivery.metric(one) if "kind" in one else delivery.event(one))

    for index, encoded in enumerate(await turns.map(encode, checked)):
        if isinstance(encoded, Fault):
            answers.append(_rejected(index, encoded))
            continue
        one, message = encoded
        if len(message.value or b"") > most_bytes:
            wrong = Fault("contexts", f"the event has {len(message.value or b'')} bytes, more than {most_bytes}")
            answers.append(_rejected(index, wrong, one["event_id"]))
            continue
        answers.append(EventAnswer(index=index, outcome="accepted", event_id=one["event_id"]))
        sent.append(answers[-1])
        messages.append(message)
    began = time.monotonic()
    for event, wrong_with in zip(sent, await delivery.deliver(messages), strict=True):
        if wrong_with is not None:
            event.outcome, event.message = "undelivered", wrong_with
    DELIVERY_SECONDS.observe(time.monotonic() - began)
    counts = dict.fromkeys(("accepted", "rejected", "undelivered"), 0)
    for event in answers:
        counts[event.outcome] += 1
    for outcome, count in counts.items():
        EVENTS.labels(way, outcome).inc(count)
    if counts["undelivered"]:
        logger.warning("%d events are not acknowledged by Kafka: %s", counts["undelivered"], _first(answers))
    return Answer(**counts, events=answers)


def _rejected(index: int, fault: Fault, event_id: str | None = None) -> EventAnswer:
    field, message = _cut(fault.field), _cut(fault.message)
    return EventAnswer(index=index, outcome="rejected", event_id=event_id, field=field, message=message)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"


def _first(answers: Sequence[EventAnswer]) -> str:
    return next(one.message or "" for one in answers if one.outcome == "undelivered")
