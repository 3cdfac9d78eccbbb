"""What makes an event impossible, beyond its types."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from funnelwatch import FunnelEvent, Phase, Status
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.events import event_error

SHOWN: dict[str, Any] = {"sign_up_session_id": "s", "step": "A", "phase": Phase.IMPRESSION}
VERIFIED: dict[str, Any] = {**SHOWN, "phase": Phase.POST_VERIFICATION, "status": Status.SUCCESS}


def test_defaults_are_those_of_the_schema_and_a_new_id_and_now() -> None:
    """Three fields are enough."""
    event = FunnelEvent(**SHOWN)
    assert uuid.UUID(event.event_id).version == 4
    assert abs(event.ts - wall_clock_ms()) < 10_000
    assert (event.funnel, event.os, event.status, event.contexts) == ("sign_up", "unknown", None, {})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({**SHOWN, "step": ""}, "step: is missing or empty"),
        ({**SHOWN, "sign_up_session_id": ""}, "sign_up_session_id: is missing or empty"),
        ({**SHOWN, "sign_up_session_id": 5}, "sign_up_session_id: 5 is not a string"),
        ({**SHOWN, "phase": "SHOWN"}, "phase: 'SHOWN' is not one of IMPRESSION, POST_VERIFICATION"),
        ({**SHOWN, "status": Status.SUCCESS}, "status: .* of an IMPRESSION; right would be none"),
        ({**SHOWN, "duration_ms": 5}, "duration_ms: 5 of an IMPRESSION; right would be none"),
        ({**VERIFIED, "status": None}, "status: None of a POST_VERIFICATION; right would be SUCCESS or FAILURE"),
        ({**VERIFIED, "duration_ms": -1}, "duration_ms: -1 is negative"),
        ({**VERIFIED, "ts": 1.5}, "ts: 1.5 is not a whole number"),
    ],
)
def test_an_impossible_event_is_rejected_with_the_field_named(fields: dict[str, Any], message: str) -> None:
    """At once, where it is made."""
    with pytest.raises(ValueError, match=f"^{message}"):
        FunnelEvent(**fields)


@pytest.mark.parametrize("fields", [SHOWN, VERIFIED, {**VERIFIED, "duration_ms": 0}])
def test_a_possible_event_has_no_error(fields: dict[str, Any]) -> None:
    """The record of an event passes the check that the stream makes."""
    assert event_error(FunnelEvent(**fields).record()) is None
