"""Recounting, for any log, any damage, and whatever is counted meanwhile."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.funnels import Funnel
from funnelwatch.sinks.timescale.counts import merged
from funnelwatch.stream.aggregate.aggregation import counts_of
from funnelwatch.stream.aggregate.recount import BEHIND_MS, Recount, correction, first_whole, log_needed_from
from funnelwatch.stream.intake.batches import NO_CREDITS, RecordBatch, Records
from funnelwatch.stream.intake.horizons import ReadingHorizons
from funnelwatch.stream.intake.validator import EventValidator
from tests.property.test_counting_properties import HORIZON_MS, LIMITS, NOW, WINDOW_MS, Wire, values
from tests.traffic import row_of

if TYPE_CHECKING:
    from funnelwatch.schemas.counts import Counts, Durations

RANGE_MS = (NOW // WINDOW_MS * WINDOW_MS - 3 * WINDOW_MS, NOW // WINDOW_MS * WINDOW_MS + WINDOW_MS)
STEPS_THEN = ("INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE")
HORIZONS = ReadingHorizons(HORIZON_MS, 40_000, 1_000)
cuts = st.lists(st.integers(0, 60), max_size=4)


class Log:
    """One partition, counted by a worker with the rules of then."""

    def __init__(self, sent: list[Any], steps: tuple[str, ...] = STEPS_THEN) -> None:
        self.wire = Wire(sent)
        self.then = EventValidator(self.wire.decode, {"sign_up": Funnel(steps)}, LIMITS, 1_000_000)
        seen, sessions = HORIZONS.memory()
        batch = RecordBatch(0, 0, len(sent), Records.of(self.wire.records()))
        validated = self.then(batch, seen, NOW, sessions)
        self.rejected = {(0, one.record.offset, one.record.timestamp) for one in validated.rejected}
        self.accepted = set(validated.accepted.offsets.tolist())
        self.validated = validated

    def counted(self, first: int, until: int) -> Counts:
        """What the worker has counted of the range by the records at ``[first, until)``."""
        accepted = self.validated.accepted
        part = accepted.where((accepted.offsets >= first) & (accepted.offsets < until))
        credited = self.validated.credited
        credited = credited[(credited["offset"] >= first) & (credited["offset"] < until)]
        counts = counts_of(part, credited, WINDOW_MS).by_name()
        return {key: numbers for key, numbers in counts.items() if RANGE_MS[0] <= key[0] < RANGE_MS[1]}

    def durations(self) -> Durations:
        """The durations of the range that the worker has counted."""
        durations = counts_of(self.validated.accepted, NO_CREDITS, WINDOW_MS).durations()
        return {key: slots for key, slots in durations.items() if RANGE_MS[0] <= key[0] < RANGE_MS[1]}

    def recount(self, until: int, cut: list[int], now: EventValidator | None = None) -> Recount:
        """The recount up to an offset, read in pieces that are cut there."""
        counting = Recount(now or self.then, self.rejected, RANGE_MS, WINDOW_MS, HORIZONS)
        bounds = sorted({0, until, *(one for one in cut if one < until)})
        for first, end in pairwise(bounds):
            counting.add(0, self.wire.records(first, end), NOW)
        return counting


@given(st.data(), st.lists(values, max_size=60), cuts)
def test_a_correction_mends_any_damage_and_keeps_what_was_counted_meanwhile(
    data: st.DataObject, sent: list[Any], cut: list[int]
) -> None:
    """Rows lost, doubled or invented before the fence; after it counting goes on: the sum is exact."""
    log = Log(sent)
    fence = data.draw(st.integers(0, len(sent)))
    right = log.counted(0, fence)
    damaged = {
        key: [number * factor for number in numbers]
        for key, numbers in right.items()
        if (factor := data.draw(st.integers(0, 2)))
    }
    if data.draw(st.booleans()):
        damaged[RANGE_MS[0], Series.of("sign_up", "NEVER", os="iOS", app_version="1")] = data.draw(
            st.just(row_of()) | st.just(row_of(3, 1, 0, 1))
        )
    changes = correction(log.recount(fence, cut).counts, damaged)
    meanwhile = log.counted(fence, len(sent))
    total = merged([damaged, meanwhile, changes])
    assert {key: numbers for key, numbers in total.items() if any(numbers)} == log.counted(0, len(sent))
    assert correction(log.recount(len(sent), []).counts, log.counted(0, len(sent))) == {}
    assert log.recount(len(sent), cut).durations == log.durations()
    assert merged([log.durations(), correction({}, log.durations())]) == {key: [0] for key in log.durations()}
    assert set(changes) == {key for key in right.keys() | damaged.keys() if right.get(key) != damaged.get(key)}


@given(st.lists(values, max_size=60), cuts)
def test_what_was_rejected_stays_rejected_though_it_would_be_accepted_now(sent: list[Any], cut: list[int]) -> None:
    """A step that is declared since does not count again what stands among the dead letters, replayed or not."""
    log = Log(sent)
    declared = EventValidator(log.wire.decode, {"sign_up": Funnel((*STEPS_THEN, "NO_SUCH_STEP"))}, LIMITS, 1_000_000)
    counting = log.recount(len(sent), cut, declared)
    assert counting.counts == log.counted(0, len(sent))
    assert not counting.disputed


@given(st.lists(values, max_size=60))
def test_what_was_counted_and_would_be_rejected_now_is_told(sent: list[Any]) -> None:
    """A step that is no longer declared makes the recount worthless exactly where such a record was counted."""
    log = Log(sent)
    narrowed = EventValidator(log.wire.decode, {"sign_up": Funnel(STEPS_THEN[:1])}, LIMITS, 1_000_000)
    lost = [offset for offset in range(len(sent)) if (0, offset, NOW - 100_000 + offset) not in log.rejected]
    expected = sum(sent[offset]["step"] == STEPS_THEN[1] for offset in lost)
    assert log.recount(len(sent), [], narrowed).disputed.total() == expected


@given(st.integers(0, 10**13), st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_first_whole_window_is_the_first_that_is_not_rejected(begins: int, ahead: int, horizon: int) -> None:
    """A log that begins at a time holds the window that the rejection names, and not the one before it."""
    first = first_whole(begins, ahead, horizon, WINDOW_MS)
    assert log_needed_from(first, ahead, horizon) >= begins
    assert log_needed_from(first - WINDOW_MS, ahead, horizon) < begins
    assert first - begins >= BEHIND_MS
