"""The detector of one funnel: its rules over its closed windows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alert_rules.model import Rules
    from stream.detector.state import AlertState, Reason, Transition
    from stream.model import ClosedWindow, Series, Tally

WEEK_MS = 604_800_000
DAY_MS = 86_400_000


class Detector:
    """All rules of one funnel over its closed windows; holds the counts history in numpy arrays; pure."""

    def __init__(self, funnel: str, rules: Rules, window_ms: int) -> None:
        self.funnel = funnel
        self.window_ms = window_ms
        self.rules = rules.of_funnel(funnel)
        self.history_ms = 3 * WEEK_MS + DAY_MS
        self.reasons: Counter[Reason] = Counter()

    def preload(self, rows: Iterable[tuple[int, Series, Tally]]) -> None:
        """Take in history, before the first window: (window_start, series, tally), sparse, in any order."""

    def restore(self, states: Iterable[AlertState]) -> None:
        """Take up the states that an earlier detector left."""

    def observe(self, window: ClosedWindow) -> list[Transition]:
        """Judge one closed window."""
        return []
