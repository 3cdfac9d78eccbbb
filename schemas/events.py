"""The event of a funnel: its fields, and the rules beyond its Avro types."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.files import SCHEMAS
from funnelwatch.schemas.fit import misfit
from funnelwatch.schemas.whole import whole

if TYPE_CHECKING:
    from collections.abc import Mapping

NEEDED = ("event_id", "funnel", "sign_up_session_id", "step")
"""Fields that must not be empty."""


class Phase(StrEnum):
    """The event of the step."""

    IMPRESSION = "IMPRESSION"
    """The step was shown."""
    POST_VERIFICATION = "POST_VERIFICATION"
    """The server has accepted or rejected the step's input."""


class Status(StrEnum):
    """Whether the server has accepted or rejected the input of a step."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"


VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The first digit of a UUID's fourth group: two bits are fixed, two random."""


def new_event_id() -> str:
    """A random UUID (version 4) as ``str(uuid.uuid4())`` makes it, in a third of the time."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelEvent:
    """One step of one session was shown, or its input was accepted or rejected.

    Attributes:
        sign_up_session_id: one person's way through the funnel.
        step: name of the step.
        phase: IMPRESSION or POST_VERIFICATION.
        status: SUCCESS or FAILURE of a POST_VERIFICATION; None for an IMPRESSION.
        os: operating system or platform, like iOS, Android, Desktop.
        browser: browser, like Chrome; empty in a native app.
        app_version: version of the app; empty where there is none.
        ts: event time, ms since the epoch, UTC; by default now.
        duration_ms: ms from the impression to the verification; None for an impression or where unknown.
        funnel: the funnel that the step belongs to.
        event_id: unique; the same id twice is counted once. By default a random UUID.
        contexts: further dimensions, by name; those that the funnel declares are counted by.

    Raises:
        ValueError: a field is invalid; the message names it.
    """

    sign_up_session_id: str
    step: str
    phase: Phase
    status: Status | None = None
    os: str = "unknown"
    browser: str = ""
    app_version: str = ""
    ts: int = field(default_factory=wall_clock_ms)
    duration_ms: int | None = None
    funnel: str = "sign_up"
    event_id: str = field(default_factory=new_event_id)
    contexts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reject an event that the stream would reject; ``duration_ms`` is rounded."""
        for name, value in (("ts", whole(self.ts)), ("duration_ms", whole(self.duration_ms, rounded=True))):
            object.__setattr__(self, name, value)
        record = self.record()
        if wrong := misfit(SCHEMAS["FunnelEvent"], record) or event_error(record):
            raise ValueError(wrong)

    def record(self) -> dict[str, Any]:
        """The event as a record for the encoder."""
        return {name: getattr(self, name) for name in self.__slots__}


def event_error(record: Mapping[str, Any]) -> str | None:
    """The error of a record that is no possible event, as ``field: error``; None: it is possible.

    Assumes the types of the schema (the encoder and the decoder see to them) and looks only at what they cannot say.
    """
    for name in NEEDED:
        if not record.get(name):
            return f"{name}: is missing or empty"
    phase = record.get("phase")
    if phase == "IMPRESSION":
        return next(
            (
                f"{name}: {record[name]!r} of an IMPRESSION; right would be none"
                for name in ("status", "duration_ms")
                if record.get(name) is not None
            ),
            None,
        )
    if phase != "POST_VERIFICATION":
        return f"phase: {phase!r} is not one of IMPRESSION, POST_VERIFICATION"
    if record.get("status") not in ("SUCCESS", "FAILURE"):
        return f"status: {record.get('status')!r} of a POST_VERIFICATION; right would be SUCCESS or FAILURE"
    return f"duration_ms: {record['duration_ms']} is negative" if (record.get("duration_ms") or 0) < 0 else None
