"""The comparison of session counts: the reference over the raw topic and the database, key by key."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import psycopg

from funnelwatch.schemas.redaction import revealed
from tests.reference.events import Avro, accepted_events, records_of
from tests.reference.sessions import COLUMNS, UNDECLARED, count_sessions, sessions_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from funnelwatch.schemas.settings import Settings
    from tests.drills.compare import Verdict
    from tests.drills.ledger import Ledger
    from tests.reference.events import Event
    from tests.reference.sessions import Counts, Funnel, Key, Session

NONE: Counts = (0, 0, 0, 0)

SESSIONS = """
SELECT (extract(epoch FROM counts.window_start) * 1000)::bigint, series.funnel, series.step, series.dimensions,
    counts.sessions, counts.session_successes, counts.reached, counts.completed
FROM window_counts AS counts INNER JOIN series ON series.series_id = counts.series_id
WHERE (counts.sessions, counts.session_successes, counts.reached, counts.completed) <> (0, 0, 0, 0)
"""


def compare_sessions(settings: Settings, funnels: Mapping[str, Funnel], ledger: Ledger, verdict: Verdict) -> None:
    """Note in the verdict every key whose session columns differ; the pipeline must be idle.

    Args:
        settings: of the workers.
        funnels: those that they have declared.
        ledger: where the records stand that must be rejected.
        verdict: of the comparison of events; gets one thing wrong for each key that differs, and what was compared.
    """
    rejected = {entry.place for entry in ledger.entries if entry.event is None and entry.place is not None}
    events = accepted_events(
        records_of(settings.kafka("consumer"), settings.events_topic),
        Avro(revealed(settings.schema_registry_url)),
        rejected,
        round(settings.duplicate_horizon_s * 1000),
    )
    if len(events) != verdict.facts["events"]:
        verdict.wrongly(f"the reference reads {len(events)} events, the ledger has {verdict.facts['events']}")
    with psycopg.connect(revealed(settings.timescale_url), autocommit=True) as session:
        found = found_in(session.execute(SESSIONS))
    note_differences(count_sessions(events, funnels, settings.window_ms), found, verdict)
    verdict.facts.update(variety(sessions_of(events, funnels), funnels))


def found_in(rows: Iterable[tuple[Any, ...]]) -> dict[Key, Counts]:
    """Rows of ``SESSIONS`` by key."""
    return {
        (window, funnel, step, tuple(sorted(names.items()))): (sessions, successes, reached, completed)
        for window, funnel, step, names, sessions, successes, reached, completed in rows
    }


def note_differences(expected: Mapping[Key, Counts], found: Mapping[Key, Counts], verdict: Verdict) -> None:
    """Note each key whose columns differ, and each column that the traffic did not exercise."""
    for key in sorted(expected.keys() | found.keys()):
        wanted, counted = expected.get(key, NONE), found.get(key, NONE)
        if wanted != counted:
            verdict.wrongly(f"{', '.join(COLUMNS)} of {key}: expected {wanted}, found {counted}")
    for number, column in enumerate(COLUMNS):
        verdict.facts[column] = sum(counts[number] for counts in expected.values())
        if not verdict.facts[column]:
            verdict.wrongly(f"the traffic has nothing to count in {column}")


def variety(sessions: Iterable[Session], funnels: Mapping[str, Funnel]) -> Counter[str]:
    """How often the traffic has what makes counting sessions hard."""
    seen: set[tuple[str, str]] = set()
    found = Counter[str]()
    for session in sessions:
        funnel = funnels.get(session.funnel, UNDECLARED)
        found["sessions_of_returned_ids"] += (session.funnel, session.session_id) in seen
        seen.add((session.funnel, session.session_id))
        in_time = [event for event in session.events if event.log_time - session.start < funnel.session_window_ms]
        found["events_after_the_session_window"] += len(session.events) - len(in_time)
        found["sessions_that_outlast_their_window"] += len(in_time) < len(session.events)
        found["sessions_of_several_os"] += len({event.os for event in in_time}) > 1
        steps = [event.step for event in in_time if event.phase == "IMPRESSION"]
        found["reloads"] += len(steps) - len(set(steps))
        found["successes_before_their_impression"] += _early_successes(in_time)
        if funnel.steps and funnel.steps[0] in steps:
            entry = steps.index(funnel.steps[0])
            found["sessions_that_skip"] += not in_order(steps[entry:], funnel.steps)
    return found


def in_order(steps: list[str], order: tuple[str, ...]) -> bool:
    """Whether every step is seen for the first time after the one before it."""
    first = [order.index(step) for step in dict.fromkeys(steps)]
    return first == list(range(len(first)))


def _early_successes(events: Iterable[Event]) -> int:
    """Steps whose success is logged before their first impression."""
    first: dict[str, str] = {}
    for event in events:
        if event.status != "FAILURE":
            first.setdefault(event.step, event.phase)
    shown = {event.step for event in events if event.phase == "IMPRESSION"}
    return sum(phase != "IMPRESSION" and step in shown for step, phase in first.items())
