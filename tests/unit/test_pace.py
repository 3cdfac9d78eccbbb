"""Rounds are seldom where nothing happens."""

from __future__ import annotations

from funnelwatch.stream.worker.pace import Pace


def test_rounds_are_quick_while_events_come_and_slow_some_time_after_the_last_one() -> None:
    """A worker that has just started is quick; so is one at once when the first event is counted again."""
    now, events = [100.0], [0]
    pace = Pace(lambda: events[0], 0.25, 4.0, 30.0, monotonic_s=lambda: now[0])
    paces = []
    for at, counted in ((100, 0), (130, 0), (131, 0), (132, 5), (140, 5), (162, 5), (163, 5), (164, 6)):
        now[0], events[0] = at, counted
        paces.append(pace.pause_s())
    assert paces == [0.25, 0.25, 4.0, 0.25, 0.25, 0.25, 4.0, 0.25]
