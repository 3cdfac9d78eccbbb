"""The step helper: which events it emits, when, with which duration."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.producers.client.step import StepShown
from tests.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping


class Emitted:
    """Takes events, and keeps them."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def emit(self, event: Mapping[str, Any], /) -> bool:
        """Keep one."""
        self.events.append(dict(event))
        return True

    @property
    def brief(self) -> list[str]:
        """Phase, or status where there is one."""
        return [str(event.get("status") or event["phase"]) for event in self.events]


def test_impression_on_entry_then_every_verdict_with_its_duration() -> None:
    """A wrong code, then the right one: two verifications of one impression."""
    to = Emitted()
    with StepShown(to, "s-1", "VERIFY_SMS_CODE", {"os": "iOS", "contexts": {"country": "DE"}}) as step:
        assert to.brief == ["IMPRESSION"]
        began = time.monotonic()
        step.failure(why="typo")
        wait_until(lambda: time.monotonic() - began > 0.02, "20 ms")
        step.success()
    shown, failed, made = to.events
    assert to.brief == ["IMPRESSION", "FAILURE", "SUCCESS"]
    assert "duration_ms" not in shown
    assert 20 <= made["duration_ms"] < 5_000
    assert [event["ts"] - event["duration_ms"] for event in (failed, made)] == [shown["ts"]] * 2
    assert [event["contexts"] for event in (failed, made)] == [{"country": "DE", "why": "typo"}, {"country": "DE"}]
    assert {(event["sign_up_session_id"], event["step"], event["os"]) for event in to.events} == {
        ("s-1", "VERIFY_SMS_CODE", "iOS")
    }


def test_leaving_without_a_verdict_emits_nothing_more() -> None:
    """The person has gone."""
    to = Emitted()
    with StepShown(to, "s-1", "A", {}):
        pass
    assert to.brief == ["IMPRESSION"]


def test_an_exception_is_no_verdict_and_goes_on_its_way() -> None:
    """An error of the app is not a wrong input."""
    to = Emitted()
    with pytest.raises(KeyError), StepShown(to, "s-1", "A", {}):
        raise KeyError
    assert to.brief == ["IMPRESSION"]


def test_a_second_success_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """No rate above 1 by a double click; the log says so."""
    to = Emitted()
    with StepShown(to, "s-1", "A", {}) as step:
        step.success()
        step.success()
    assert to.brief == ["IMPRESSION", "SUCCESS"]
    assert "second success" in caplog.text


def test_a_verdict_without_entry_is_a_mistake() -> None:
    """The message shows the right form."""
    with pytest.raises(RuntimeError, match=r"with producer\.step"):
        StepShown(Emitted(), "s-1", "A", {}).success()
