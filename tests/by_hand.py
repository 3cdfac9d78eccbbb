"""The rows that events must be counted in: events by a group-by, sessions by the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.funnels import SIGN_UP
from tests.reference.events import Record, event_of
from tests.reference.sessions import Funnel, count_sessions
from tests.traffic import naive_counts, row_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.traffic import Key


def counts_by_hand(
    events: Iterable[Mapping[str, Any]], window_ms: int, *, funnel: str = "sign_up", declared: Funnel | None = None
) -> dict[Key, list[int]]:
    """Every column of every row, by key.

    Args:
        events: each once, those of a session in the order of the log, all written within the session window.
        window_ms: length of a window, ms.
        funnel: the declared funnel.
        declared: its declaration; None: that of the funnel which is declared where nothing else is.
    """
    events, declared = list(events), declared or Funnel(SIGN_UP)
    counts = naive_counts(events, window_ms, declared.dimensions)
    written = [event_of(Record(0, at, 0, b""), fields) for at, fields in enumerate(events)]
    for (window, name, step, dimensions), numbers in count_sessions(written, {funnel: declared}, window_ms).items():
        counts.setdefault((window, Series(name, step, dimensions)), row_of())[-len(numbers) :] = numbers
    return counts
