"""Rounds are seldom where nothing happens."""

from __future__ import annotations

import pytest

from funnelwatch.schemas.settings import Settings
from funnelwatch.stream.detector.pipeline import BLINK_MS
from funnelwatch.stream.worker.pace import SLOWEST_S, Pace


def test_rounds_are_quick_while_events_come_and_slow_some_time_after_the_last_one() -> None:
    """A worker that has just started is quick; so is one at once when the first event is counted again."""
    now, events = [100.0], [0]
    pace = Pace(lambda: events[0], 0.25, 4.0, 30.0, monotonic_s=lambda: now[0])
    paces = []
    for at, counted in ((100, 0), (130, 0), (131, 0), (132, 5), (140, 5), (162, 5), (163, 5), (164, 6)):
        now[0], events[0] = at, counted
        paces.append(pace.pause_s())
    assert paces == [0.25, 0.25, 4.0, 0.25, 0.25, 0.25, 4.0, 0.25]


@pytest.mark.parametrize(
    ("window_s", "watchdog_s", "slowest_s"), [(60, 60.0, 10.0), (3_600, 60.0, 10.0), (3_600, 5.0, 5.0), (6, 0.0, 2.0)]
)
def test_long_windows_do_not_make_rounds_rarer_than_the_monitor_needs(
    window_s: int, watchdog_s: float, slowest_s: float
) -> None:
    """The pipeline is watched and heartbeats are sent while nothing comes, whatever the length of a window."""
    pace = Pace.of(Settings(window_s=window_s, watchdog_every_s=watchdog_s), lambda: 0, 2.0)
    pace._moved_s -= 10_000
    assert pace.pause_s() == slowest_s
    assert 2 * SLOWEST_S * 1000 <= BLINK_MS
