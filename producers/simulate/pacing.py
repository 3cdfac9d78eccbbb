"""Paces events: yields each when a clock reaches its time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


def wall_ms() -> float:
    """Milliseconds since the epoch."""
    return time.time() * 1000


def paced(
    events: Iterable[Mapping[str, Any]],
    start_ms: int,
    speed: float = 1.0,
    *,
    clock_ms: Callable[[], float] = wall_ms,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Mapping[str, Any]]:
    """The events, each when its time has come: ``start_ms`` now, later ones ``speed`` times as fast as they happened.

    At speed 1 from now on that is each event's own ts. A slow consumer receives due events without
    a pause until it has caught up.

    Args:
        events: roughly in the order of ts.
        start_ms: the event time that is now.
        speed: seconds of event time per second.
        clock_ms: the time now, ms.
        sleep: waits a number of seconds.
    """
    began = clock_ms()
    for event in events:
        due = began + (event["ts"] - start_ms) / speed
        while (wait := due - clock_ms()) > 0:
            sleep(wait / 1000)
        yield event
