"""The fields of an event as the calls of an app take them, and their types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.events import Phase, Status

if TYPE_CHECKING:
    from funnelwatch.schemas.metrics import MetricKind

    PhaseName = Phase | Literal["IMPRESSION", "POST_VERIFICATION"]
    StatusName = Status | Literal["SUCCESS", "FAILURE"]
    KindName = MetricKind | Literal["COUNTER", "TIMER"]

    class OptionalFields(TypedDict, total=False):
        """The optional fields of an event."""

        status: StatusName | None
        os: str
        browser: str
        app_version: str
        ts: int
        duration_ms: float | None
        funnel: str
        event_id: str
        contexts: dict[str, str]

    class EventFields(OptionalFields, total=False):
        """Fields that complete an event."""

        sign_up_session_id: str
        step: str
        phase: PhaseName

    class WholeEvent(OptionalFields):
        """The fields of a whole event."""

        sign_up_session_id: str
        step: str
        phase: PhaseName


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None: an absent field takes its default."""
    return {name: value for name, value in fields.items() if value is not None}


def impression_of(session_id: str, step: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of an impression; ts is now unless ``fields`` has one."""
    shown = {"sign_up_session_id": session_id, "step": step, "phase": Phase.IMPRESSION, "ts": wall_clock_ms()}
    return {**shown, **fields}


def verification_of(
    session_id: str, step: str, status: StatusName, shown_at: int | None, fields: dict[str, Any]
) -> dict[str, Any]:
    """The fields of a verification; its duration is the time since ``shown_at``, ms, and never negative."""
    verified = {"sign_up_session_id": session_id, "step": step, "phase": Phase.POST_VERIFICATION, "status": status}
    record = {**verified, "ts": wall_clock_ms(), **fields}
    if shown_at is not None:
        record["duration_ms"] = max(0, record["ts"] - shown_at)
    return record
