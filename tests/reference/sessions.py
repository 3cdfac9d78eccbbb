"""Session columns by a direct reading of docs/sessions.md: dicts and lists, and no code of funnelwatch.

The pipeline updates a small state per session. This module keeps every event of every session and reads each definition
off that list, so that both would have to be wrong in the same way.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.reference.events import Event

HOUR_MS = 3_600_000
COLUMNS = ("sessions", "session_successes", "reached", "completed")

Dimensions = tuple[tuple[str, str], ...]
"""Name and value of each dimension that has a value, by name."""

Key = tuple[int, str, str, Dimensions]
"""Start of the window (ms), funnel, step, dimensions."""

Counts = tuple[int, int, int, int]
"""A number for each of ``COLUMNS``."""


@dataclass(frozen=True, slots=True)
class Funnel:
    """A funnel, declared or not.

    Attributes:
        steps: in order; none of an undeclared funnel.
        dimensions: the fields of events, or keys of their contexts, that it counts by.
        session_window_ms: W, ms.
    """

    steps: tuple[str, ...] = ()
    dimensions: tuple[str, ...] = ("os", "browser", "app_version")
    session_window_ms: int = HOUR_MS


UNDECLARED = Funnel()


@dataclass(slots=True)
class Session:
    """One session and all of its events, in the order of the log.

    Attributes:
        start: Kafka's timestamp of its first event, ms.
        last: the latest of Kafka's timestamps of its events, ms.
    """

    funnel: str
    session_id: str
    start: int
    last: int
    events: list[Event] = field(default_factory=list)


def sessions_of(events: Iterable[Event], funnels: Mapping[str, Funnel]) -> list[Session]:
    """The sessions of accepted events, each partition in the order of its log, in the order in which they begin."""
    found: list[Session] = []
    # Kafka is keyed by session, so that one partition has all events of a session.
    current: dict[tuple[int, str, str], Session] = {}
    for event in events:
        window = funnels.get(event.funnel, UNDECLARED).session_window_ms
        key = (event.partition, event.funnel, event.session_id)
        session = current.get(key)
        if session is None or event.log_time - session.last >= window:
            session = current[key] = Session(event.funnel, event.session_id, event.log_time, event.log_time)
            found.append(session)
        session.events.append(event)
        session.last = max(session.last, event.log_time)
    return found


def cells_of(session: Session, funnel: Funnel, window_ms: int) -> Iterator[tuple[Key, str]]:
    """Each key and column to which a session adds one."""

    def key(step: str, event: Event) -> Key:
        """The row of a step in the window and with the dimensions of an event."""
        return event.ts // window_ms * window_ms, event.funnel, step, dimensions_of(event, funnel)

    in_time = [event for event in session.events if event.log_time - session.start < funnel.session_window_ms]
    impressions = [event for event in in_time if event.phase == "IMPRESSION"]
    succeeded = {event.step for event in in_time if event.status == "SUCCESS"}

    first: dict[str, Event] = {}
    for event in impressions:
        first.setdefault(event.step, event)
    for step, impression in first.items():
        yield key(step, impression), "sessions"
        if step in succeeded:
            yield key(step, impression), "session_successes"

    if funnel.steps and funnel.steps[0] in first:
        entry = first[funnel.steps[0]]
        furthest = 1
        for event in impressions[impressions.index(entry) + 1 :]:
            if furthest < len(funnel.steps) and event.step == funnel.steps[furthest]:
                furthest += 1
        for step in funnel.steps[:furthest]:
            yield key(step, entry), "reached"
            if step in succeeded:
                yield key(step, entry), "completed"


def dimensions_of(event: Event, funnel: Funnel) -> Dimensions:
    """The dimensions by which an event counts."""
    fields = {"os": event.os, "browser": event.browser, "app_version": event.app_version}
    values = {name: fields.get(name, event.contexts.get(name, "")) for name in funnel.dimensions}
    return tuple(sorted((name, value) for name, value in values.items() if value))


def count_sessions(events: Iterable[Event], funnels: Mapping[str, Funnel], window_ms: int) -> dict[Key, Counts]:
    """The four columns of every row that has any, by key.

    Args:
        events: those that were accepted, each once, each partition in the order of its log.
        funnels: the declared ones.
        window_ms: length of a window of counts, ms.
    """
    cells = Counter(
        cell
        for session in sessions_of(events, funnels)
        for cell in cells_of(session, funnels.get(session.funnel, UNDECLARED), window_ms)
    )
    return {
        key: (cells[key, "sessions"], cells[key, "session_successes"], cells[key, "reached"], cells[key, "completed"])
        for key, _ in cells
    }
