"""A call on a thread of its own: its result, its error, and ticks while it goes on."""

from __future__ import annotations

import threading

import pytest

from funnelwatch.sinks.alerts.aside import aside


def test_the_result_comes_and_ticks_meanwhile() -> None:
    """Whoever waits looks after other things as long as it takes."""
    release, ticks = threading.Event(), []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 3:
            release.set()

    assert aside(lambda: release.wait(60) and "done", "test", 0.01, tick) == "done"
    assert len(ticks) >= 3


@pytest.mark.parametrize("error", [TimeoutError("slow"), ValueError("wrong"), KeyError("gone")])
def test_an_error_of_the_call_is_raised_where_its_result_is_awaited(error: Exception) -> None:
    """Also one that says that something took too long: it is the call's, not the wait's."""

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        aside(fail, "test", 60, lambda: None)
    assert caught.value is error


def test_what_a_tick_raises_ends_the_wait_and_leaves_the_call_to_itself() -> None:
    """As when the program is to end: nobody waits for a receiver that takes its time."""
    release = threading.Event()

    def tick() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        aside(lambda: release.wait(60), "test", 0.01, tick)
    release.set()
