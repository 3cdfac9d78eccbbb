"""The reference for session counts, on any log: what holds of every row, and what the counts do not depend on."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.reference.events import Event, without_duplicates
from tests.reference.sessions import Funnel, count_sessions

STEPS = ("A", "B", "C")
W = 100
HORIZON = 40
FUNNELS = {"declared": Funnel(STEPS, ("os",), W)}
WINDOW = 70
OUTCOMES = [("IMPRESSION", None), ("POST_VERIFICATION", "SUCCESS"), ("POST_VERIFICATION", "FAILURE")]

made = st.tuples(
    st.integers(0, 60),
    st.sampled_from(["declared", "other"]),
    st.sampled_from(["x", "y", "z"]),
    st.sampled_from(STEPS),
    st.sampled_from(["iOS", "Android"]),
    st.sampled_from(OUTCOMES),
    st.integers(0, 300),
)
"""Time since the record before it, funnel, session, step, os, phase and status, ts."""


def log_of(records: list[tuple[int, str, str, str, str, tuple[str, str | None], int]]) -> list[Event]:
    """The log of one partition."""
    found: list[Event] = []
    time = 0
    for offset, (gap, funnel, session, step, os, (phase, status), ts) in enumerate(records):
        time += gap
        found.append(Event(0, offset, time, str(offset), funnel, session, step, os, "", "", phase, status, ts, {}))
    return found


logs = st.lists(made, max_size=60).map(log_of)
of_one = st.tuples(
    *(st.integers(0, 60), st.just("declared"), st.just("x"), st.sampled_from(STEPS)),
    *(st.just("iOS"), st.sampled_from(OUTCOMES), st.integers(0, 300)),
)
logs_of_one = st.lists(of_one, min_size=1, max_size=20).map(log_of)
"""One session id, often silent for just less or more than W."""


@given(logs)
def test_no_share_exceeds_one_and_reached_never_grows_from_step_to_step(log: list[Event]) -> None:
    """In every row, whatever the log; undeclared funnels reach nothing."""
    counts = count_sessions(log, FUNNELS, WINDOW)
    for (window, funnel, step, dimensions), (sessions, successes, reached, completed) in counts.items():
        assert 0 <= successes <= sessions
        assert 0 <= completed <= reached
        if funnel == "other":
            assert reached == 0
        elif step != STEPS[0]:
            before = counts[window, funnel, STEPS[STEPS.index(step) - 1], dimensions] if reached else (0, 0, 0, 0)
            assert reached <= before[2]


@given(logs)
def test_sessions_do_not_depend_on_each_other(log: list[Event]) -> None:
    """A log with the sessions one after the other has the same counts, and so has one in many partitions."""
    expected = count_sessions(log, FUNNELS, WINDOW)
    one_by_one = sorted(log, key=lambda event: (event.session_id, event.offset))
    assert count_sessions(one_by_one, FUNNELS, WINDOW) == expected
    apart = [replace(event, partition=ord(event.session_id)) for event in one_by_one]
    assert count_sessions(apart, FUNNELS, WINDOW) == expected


@given(logs_of_one, st.lists(st.integers(1, 3), min_size=20, max_size=20), st.integers(0, 19))
def test_who_reads_two_windows_and_the_horizon_back_counts_the_rest_as_who_reads_all(
    log: list[Event], repeats: list[int], place: int
) -> None:
    """Cells that events from a place on add are the same, although the begin of sessions and first ids are not read."""
    place %= len(log)
    log = [
        replace(event, event_id=log[max(0, event.offset - back + 1)].event_id)
        for event, back in zip(log, repeats, strict=False)
    ]
    kept = [event for event in log if event.log_time >= log[place].log_time - 2 * W - HORIZON]

    def added(records: list[Event]) -> dict[object, tuple[int, ...]]:
        """The counts of these records less those of the records before the place."""
        events = list(without_duplicates(records, HORIZON))
        before = count_sessions([event for event in events if event.offset < place], FUNNELS, WINDOW)
        rows = {
            key: tuple(a - b for a, b in zip(counts, before.get(key, (0,) * 4), strict=True))
            for key, counts in count_sessions(events, FUNNELS, WINDOW).items()
        }
        return {key: row for key, row in rows.items() if any(row)}

    assert added(kept) == added(log)
