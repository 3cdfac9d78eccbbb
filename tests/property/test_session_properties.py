"""What sessions add to the counts, against a direct reading of the definitions in docs/sessions.md."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.funnels import SESSION_WINDOW_MS, DeclaredFunnels, Funnel
from funnelwatch.stream.intake.batches import FAILURE, IMPRESSION, SUCCESS
from funnelwatch.stream.intake.sessions import Sessions
from funnelwatch.stream.native.library import ROW
from funnelwatch.stream.native.series_numbers import NumberedSeries

W = 100
T = 1_700_000_000_000
STEPS = ("A", "B", "C")
FUNNELS = DeclaredFunnels(
    {"f": Funnel(STEPS, session_window_ms=W), "g": Funnel(STEPS[:2], session_window_ms=W // 2)}, undeclared="reject"
)
LONGEST = SESSION_WINDOW_MS
COLUMNS = {5: "sessions", 6: "session_successes", 7: "reached", 8: "completed"}


@dataclass(frozen=True)
class Sent:
    """An accepted event: Kafka's timestamp, session, series, outcome, own time."""

    log_time: int
    session: int
    series: Series
    outcome: int
    ts: int


events = st.builds(
    Sent,
    log_time=st.just(0),
    session=st.integers(0, 2),
    series=st.builds(
        lambda funnel, step, os: Series.of(funnel, STEPS[step % len(FUNNELS[funnel].steps)], os=os),
        st.sampled_from(["f", "f", "f", "g"]),
        st.integers(0, 2),
        st.sampled_from(["iOS", "web"]),
    ),
    outcome=st.sampled_from([IMPRESSION, IMPRESSION, SUCCESS, FAILURE]),
    ts=st.integers(T - 500, T + 500),
)


GAPS = (0, 1, 7, 20, 49, 50, 51, 99, 100, 101, 230)


@st.composite
def logs(draw: st.DrawFn, disorder: bool = True, gaps: tuple[int, ...] = GAPS, sessions: int = 3) -> list[Sent]:
    """Events with Kafka timestamps that mostly rise."""
    found, t = [], T
    for one in draw(st.lists(events.filter(lambda one: one.session < sessions), min_size=1, max_size=60)):
        t += draw(st.sampled_from(gaps))
        back = draw(st.sampled_from([0, 0, 0, 3, W // 4])) if disorder else 0
        found.append(Sent(t - back, one.session, one.series, one.outcome, one.ts))
    return found


@dataclass
class Person:
    """A session by the definitions."""

    start: int
    last: int
    shown: dict[str, tuple[Series, int]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    counted: set[str] = field(default_factory=set)
    entry: tuple[Series, int] | None = None
    reached: list[str] = field(default_factory=list)
    completed: set[str] = field(default_factory=set)

    def add(self, column: str, step: str, adds: Counter[tuple[str, int, Series]]) -> None:
        """Count one in the row of the step's first impression, or of the entry."""
        if column in ("reached", "completed"):
            assert self.entry is not None
            entered, at = self.entry
            adds[column, at, Series(entered.funnel, step, entered.dimensions)] += 1
        else:
            series, at = self.shown[step]
            adds[column, at, series] += 1

    def see(self, one: Sent, steps: tuple[str, ...]) -> Counter[tuple[str, int, Series]]:
        """What an event adds."""
        adds: Counter[tuple[str, int, Series]] = Counter()
        step = one.series.step
        if one.outcome == IMPRESSION:
            if step not in self.shown:
                self.shown[step] = one.series, one.ts
                self.add("sessions", step, adds)
            if step == steps[0] and self.entry is None:
                self.entry = one.series, one.ts
            if self.entry and [*self.reached, step] == list(steps[: len(self.reached) + 1]):
                self.reached.append(step)
                self.add("reached", step, adds)
        if one.outcome == SUCCESS:
            self.done.add(step)
        for column, seen, counted in (
            ("session_successes", self.shown, self.counted),
            ("completed", self.reached, self.completed),
        ):
            if step in seen and step in self.done and step not in counted:
                counted.add(step)
                self.add(column, step, adds)
        return adds


def expected(sent: list[Sent]) -> list[Counter[tuple[str, int, Series]]]:
    """Column, moment and series of what each event adds."""
    people: dict[tuple[str, int], Person] = {}
    found: list[Counter[tuple[str, int, Series]]] = []
    for one in sent:
        funnel = FUNNELS[one.series.funnel]
        key, t = (one.series.funnel, one.session), one.log_time
        if key not in people or t - people[key].last >= funnel.session_window_ms:
            people[key] = Person(t, t)
        person = people[key]
        person.last = max(person.last, t)
        is_counted = t - person.start < funnel.session_window_ms
        found.append(person.see(one, funnel.steps) if is_counted else Counter())
    return found


class Reader:
    """Reads a log, batch by batch."""

    def __init__(self, limit: int = 1_000) -> None:
        self.numbers = NumberedSeries(FUNNELS)
        self.sessions = Sessions(W, limit)

    def __call__(self, sent: list[Sent], offset: int = 0) -> dict[int, Counter[tuple[str, int, Series]]]:
        """What each event adds, by its offset."""
        rows = np.zeros(len(sent), ROW)
        for at, one in enumerate(sent):
            rows[at]["offset"], rows[at]["log_time"], rows[at]["session"] = offset + at, one.log_time, one.session + 1
            rows[at]["ts"], rows[at]["outcome"] = one.ts, one.outcome
            rows[at]["series"] = self.numbers.of(one.series)
        found: dict[int, Counter[tuple[str, int, Series]]] = {offset + at: Counter() for at in range(len(sent))}
        for at, moment, series, column in self.sessions.credited(rows, self.numbers.places, T * 2).tolist():
            found[at][COLUMNS[column], moment, self.numbers.names[series]] += 1
        return found


@example(
    [
        Sent(T + after, who, Series.of("f", "A"), IMPRESSION, T)
        for after, who in ((0, 1), (100, 0), (101, 1), (202, 1), (199, 0))
    ],
    [],
)
@given(logs(), st.lists(st.integers(0, 60), max_size=5))
@settings(max_examples=200)
def test_sessions_add_what_the_definitions_say_however_the_log_is_cut(sent: list[Sent], cuts: list[int]) -> None:
    """Each event adds the same, in one batch or in many."""
    reader, found = Reader(), {}
    borders = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    for begin, end in pairwise(borders):
        found |= reader(sent[begin:end], begin)
    assert list(found.values()) == expected(sent)


@given(logs(disorder=False) | logs(disorder=False, gaps=(20, 60, 99, 100), sessions=1))
@example(
    [
        Sent(T + after, 0, Series.of("f", step), IMPRESSION, T)
        for after, step in ((0, "A"), (60, "A"), (120, "A"), (140, "B"))
    ]
)
@settings(max_examples=150)
def test_a_reader_that_begins_two_session_windows_earlier_adds_the_same(sent: list[Sent]) -> None:
    """A new owner of a partition goes on exactly where the last one ended, wherever that is."""
    whole = expected(sent)
    for start in range(1, len(sent)):
        begin = next(place for place, one in enumerate(sent) if one.log_time >= sent[start - 1].log_time - 2 * W)
        reader = Reader()
        reader(sent[begin:start], begin)
        assert list(reader(sent[start:], start).values()) == whole[start:]


@given(logs())
def test_no_rate_is_above_one(sent: list[Sent]) -> None:
    """Successes are at most as many as sessions, and no step is reached by more than the one before."""
    total: Counter[tuple[str, int, Series]] = Counter()
    for one in Reader()(sent).values():
        total += one
    for (column, moment, series), number in total.items():
        if column == "session_successes":
            assert number <= total["sessions", moment, series]
        if column == "completed":
            assert number <= total["reached", moment, series]
        steps = FUNNELS[series.funnel].steps
        if column == "reached" and (place := steps.index(series.step)):
            assert number <= total["reached", moment, Series(series.funnel, steps[place - 1], series.dimensions)]


@given(logs(), st.integers(1, 3))
def test_a_full_memory_forgets_the_oldest_and_says_so(sent: list[Sent], limit: int) -> None:
    """Memory is bounded whatever ids come."""
    reader = Reader(limit)
    for offset, one in enumerate(sent):
        reader([one], offset)
        assert len(reader.sessions) <= 2 * limit
    people = len({(one.series.funnel, one.session) for one in sent})
    if people <= limit:
        assert reader.sessions.shortened == 0 or people == limit


def test_a_session_whose_event_could_not_be_counted_counts_nothing_more() -> None:
    """What it has seen is not known; the next session of the same id counts."""
    reader = Reader()
    shown = Sent(T, 1, Series.of("f", "A"), IMPRESSION, T)
    rows = np.zeros(1, ROW)
    rows["session"], rows["log_time"], rows["series"] = 2, T, reader.numbers.of(shown.series)
    reader([shown])
    reader.sessions.void(rows)
    later = [Sent(T + 10, 1, Series.of("f", "A"), SUCCESS, T), Sent(T + 10 + W, 1, shown.series, IMPRESSION, T)]
    found = reader(later, 1)
    assert not found[1]
    assert found[2] == Counter({("sessions", T, shown.series): 1, ("reached", T, shown.series): 1})
