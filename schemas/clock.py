"""The wall clock, for components that take a clock as an argument."""

from __future__ import annotations

import time


def wall_clock_ms() -> int:
    """Now, ms."""
    return time.time_ns() // 1_000_000
