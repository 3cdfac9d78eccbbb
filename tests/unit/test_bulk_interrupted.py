"""Ctrl-C while events are produced in bulk: what was taken is what is counted."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from funnelwatch.producers.files import bulk
from funnelwatch.producers.kafka import acked
from funnelwatch.producers.simulate.simulator import Simulator
from funnelwatch.schemas.settings import Settings

TAKEN_BEFORE = 7
HOUR_MS = 3_600_000


class Interrupting:
    """Stands for librdkafka; Ctrl-C comes just when it has taken an event, or just when it has no room."""

    full = False
    by = signal.SIGINT
    taken = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        type(self).taken = 0

    def produce(self, *args: Any, **kwargs: Any) -> None:
        """Take an event."""
        if type(self).taken == TAKEN_BEFORE:
            signal.raise_signal(self.by)
            if self.full:
                raise BufferError
        type(self).taken += 1

    def poll(self, timeout: float) -> int:
        """Nothing has happened."""
        return 0

    def flush(self, timeout: float | None = None) -> int:
        """All are delivered."""
        return 0


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("full", [False, True], ids=["taken", "no room"])
def test_an_event_that_was_taken_as_the_end_came_is_counted(
    monkeypatch: pytest.MonkeyPatch, full: bool, by: signal.Signals
) -> None:
    """Neither one more nor one less; and the signals mean again what they meant before."""
    monkeypatch.setattr(Interrupting, "full", full)
    monkeypatch.setattr(Interrupting, "by", by)
    monkeypatch.setattr(acked, "Producer", Interrupting)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as a command finds it

    try:
        outcome = bulk.produce_events(Settings(), Simulator(seed=1, rate=600).events(0, HOUR_MS))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)

    assert outcome.interrupted
    assert outcome.produced == Interrupting.taken == TAKEN_BEFORE + (not full)
