"""What an event must be like to be counted; each rejection by an example, each edge on both sides."""

from __future__ import annotations

from typing import Any

import pytest

from funnelwatch.schemas.funnels import Funnel
from funnelwatch.schemas.times import DAY_MS
from funnelwatch.schemas.validation import Horizon, Limits, RejectedError, RejectionReason, check, check_time
from funnelwatch.stream.intake.validator import EventValidator
from tests.traffic import event

NOW = 1_700_000_000_000
LIMITS = Limits(max_future_ms=1_000, max_age_ms=DAY_MS)
FUNNELS = {"sign_up": Funnel(("INPUT_NAME", "INPUT_PASSWORD"))}


def good(**changes: Any) -> dict[str, Any]:
    """A good event at ``NOW``."""
    return event(step="INPUT_NAME", ts=NOW, **changes)


VERIFIED = {"phase": "POST_VERIFICATION", "status": "SUCCESS"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ts": NOW + 1_000},
        {"ts": NOW - DAY_MS},
        {"os": "x" * 100},
        {"event_id": "x" * 500},
        {"browser": "", "app_version": ""},
        {"funnel": "of nobody", "step": "any"},
        {"status": "SUCCESS"},
        VERIFIED,
        VERIFIED | {"duration_ms": 0},
        VERIFIED | {"duration_ms": DAY_MS},
    ],
)
def test_an_event_within_the_limits_is_counted(changes: dict[str, Any]) -> None:
    """Edges belong to what is allowed; a status of an impression is ignored; a funnel of nobody takes any step."""
    check(good() | changes, FUNNELS, LIMITS, NOW)


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"ts": NOW + 1_001}, RejectionReason.IN_THE_FUTURE, "ahead of the clock"),
        ({"ts": NOW - DAY_MS - 1}, RejectionReason.TOO_OLD, "is it in milliseconds?"),
        ({"ts": 2**63 - 1}, RejectionReason.IN_THE_FUTURE, "ts is"),
        ({"ts": -(2**63)}, RejectionReason.TOO_OLD, "ts is"),
        ({"os": "x" * 101}, RejectionReason.FIELD_TOO_LONG, "os has 101 characters, more than 100"),
        ({"sign_up_session_id": "x" * 501}, RejectionReason.FIELD_TOO_LONG, "sign_up_session_id has 501"),
        ({"app_version": "1\0"}, RejectionReason.BAD_CHARACTER, "app_version has a NUL"),
        ({"step": ""}, RejectionReason.EMPTY_FIELD, "step is empty"),
        ({"event_id": ""}, RejectionReason.EMPTY_FIELD, "event_id is empty"),
        (
            {"step": "INPUT_SHOE"},
            RejectionReason.UNKNOWN_STEP,
            "has no step INPUT_SHOE; it has INPUT_NAME, INPUT_PASSWORD",
        ),
        ({"phase": "POST_VERIFICATION"}, RejectionReason.STATUS_MISSING, "SUCCESS or FAILURE"),
        (VERIFIED | {"duration_ms": -1}, RejectionReason.BAD_DURATION, "duration_ms is -1"),
        (VERIFIED | {"duration_ms": DAY_MS + 1}, RejectionReason.BAD_DURATION, "duration_ms is"),
    ],
)
def test_an_event_beyond_them_is_rejected_with_a_reason_and_a_sentence(
    changes: dict[str, Any], reason: RejectionReason, said: str
) -> None:
    """The sentence names the field and what would be right."""
    with pytest.raises(RejectedError) as caught:
        check(good() | changes, FUNNELS, LIMITS, NOW)
    assert caught.value.reason is reason
    assert said in caught.value.detail


DROPPED = Limits(1_000, DAY_MS, Horizon(NOW - DAY_MS // 2))
"""Counts of more than half a day ago are dropped."""


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({"ts": NOW - DAY_MS // 2}, True),
        ({"ts": NOW - DAY_MS // 2 - 1}, False),
        (VERIFIED | {"ts": NOW - 10, "duration_ms": DAY_MS // 2 - 10}, True),
        (VERIFIED | {"ts": NOW - 10, "duration_ms": DAY_MS // 2 - 9}, False),
        ({"ts": NOW - 10, "duration_ms": DAY_MS // 2}, True),
        ({"ts": NOW - DAY_MS - 1}, False),
    ],
)
def test_what_would_be_added_to_dropped_counts_is_too_old(changes: dict[str, Any], fits: bool) -> None:
    """Whatever the largest age is: an event's own window, and that of the impression that it answers."""
    if fits:
        check(good() | changes, FUNNELS, DROPPED, NOW)
        return
    with pytest.raises(RejectedError) as caught:
        check(good() | changes, FUNNELS, DROPPED, NOW)
    assert caught.value.reason is RejectionReason.TOO_OLD


def test_a_horizon_moves_while_events_are_validated() -> None:
    """The validator asks for it anew each time; the sentence names the setting."""
    limits = Limits(1_000, DAY_MS)
    check_time(NOW - DAY_MS, limits, NOW)
    limits.horizon.from_ms = NOW - DAY_MS // 2
    with pytest.raises(RejectedError, match=r"counts older than 0 days were dropped \(FUNNELWATCH_KEEP_WINDOWS_DAYS"):
        check_time(NOW - DAY_MS, limits, NOW)


def test_a_value_that_is_too_large_is_rejected_unread() -> None:
    """Its bytes are not even decoded."""

    def decode(_: bytes | None) -> dict[str, Any]:
        raise AssertionError

    validator = EventValidator(decode, FUNNELS, LIMITS, 10)
    with pytest.raises(RejectedError, match="11 bytes, more than 10"):
        validator.event(b"x" * 11, NOW)
