"""Counting, for any records in any order and any cut."""

from __future__ import annotations

from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from funnelwatch.schemas.codec import Reason, Undecodable
from funnelwatch.schemas.counts import ClosedWindow, CountRow, Counts, Durations, Series
from funnelwatch.schemas.funnels import Funnel
from funnelwatch.schemas.times import last_closed, window_start
from funnelwatch.schemas.validation import Limits
from funnelwatch.sinks.timescale.closing import PartitionWatermark
from funnelwatch.sinks.timescale.counts import merged
from funnelwatch.stream.aggregate.aggregation import aggregate, watermark_of
from funnelwatch.stream.closing.watermark import topic_watermark
from funnelwatch.stream.closing.windows import ActiveSeries, Assembler, parts_of
from funnelwatch.stream.intake.batches import Record, RecordBatch, Records, ValidatedBatch, joined
from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.validator import EventValidator
from funnelwatch.stream.native.digests import digests_of
from tests.traffic import event, naive_counts, naive_durations, seen_at

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = 1_700_000_000_000
WINDOW_MS = 60_000
HORIZON_MS = 600_000
LIMITS = Limits(300_000, 86_400_000)

events = st.builds(
    lambda number, step, os, verdict, ago, duration: event(
        event_id=f"e{number}",
        step=step,
        os=os,
        ts=NOW - ago,
        phase="POST_VERIFICATION" if verdict else "IMPRESSION",
        status=verdict or None,
        duration_ms=duration if verdict else None,
    ),
    number=st.integers(0, 40),
    step=st.sampled_from(["INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE", "NO_SUCH_STEP"]),
    os=st.sampled_from(["iOS", "Android", ""]),
    verdict=st.sampled_from(["", "SUCCESS", "FAILURE"]),
    ago=st.integers(-400_000, 400_000),
    duration=st.none() | st.integers(-1, 200_000),
)
values = events | st.just("garbage")
good_events = events.filter(
    lambda e: e["step"] != "NO_SUCH_STEP" and e["os"] and e["ts"] - NOW <= 300_000 and (e["duration_ms"] or 0) >= 0
)


class Wire:
    """Stands for the codec: a value is the number of an event in a list."""

    def __init__(self, sent: list[Any]) -> None:
        self.sent = sent

    def decode(self, value: bytes | None) -> dict[str, Any]:
        """The event with that number."""
        found = self.sent[int(value or b"")]
        if found == "garbage":
            raise Undecodable(Reason.INVALID_AVRO, "garbage")
        return dict(found)

    def validator(self) -> EventValidator:
        """A validator of these events, who knows the built-in funnel."""
        return EventValidator(
            self.decode, {"sign_up": Funnel(("INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE"))}, LIMITS, 1_000_000
        )

    def records(self, first: int = 0, until: int | None = None) -> list[Record]:
        """The records at ``[first, until)``, written one a second."""
        until = len(self.sent) if until is None else until
        return [Record(offset, b"k", str(offset).encode(), NOW - 100_000 + offset) for offset in range(first, until)]

    def validated(self, seen: SeenIds, first: int, until: int) -> ValidatedBatch:
        """The verdict on the batch ``[first, until)``."""
        return self.validator()(RecordBatch(0, first, until, Records.of(self.records(first, until))), seen, NOW)


def unique(sent: list[Any]) -> list[Any]:
    """The same events with ids of their own."""
    return [one | {"event_id": f"u{number}"} for number, one in enumerate(sent)]


def count_all(sent: list[Any], cuts: list[int]) -> tuple[Counts, Durations]:
    """Count a partition's events, and their durations, in batches that are cut there."""
    wire, seen = Wire(sent), SeenIds(HORIZON_MS)
    bounds = sorted({0, len(sent), *(cut % (len(sent) + 1) for cut in cuts)})
    parts = []
    for first, until in pairwise(bounds):
        parts.append(aggregate(wire.validated(seen, first, until), WINDOW_MS, 10_000, NOW))
    return merged(part.counts.by_name() for part in parts), merged(part.counts.durations() for part in parts)


def naive(sent: Iterable[Any]) -> tuple[Counts, Durations]:
    """The same by an independent group-by."""
    sent = list(sent)
    return naive_counts(sent, WINDOW_MS), naive_durations(sent, WINDOW_MS)  # type: ignore[return-value]


@given(st.lists(good_events, max_size=60), st.randoms(use_true_random=False), st.lists(st.integers(0, 1000)))
def test_any_order_and_any_cut_into_batches_gives_the_counts_of_an_independent_group_by(
    sent: list[Any], chance: Any, cuts: list[int]
) -> None:
    """Window and cohort counts and durations depend neither on the order of arrival nor on where batches end."""
    sent = unique(sent)
    expected = naive(sent)
    shuffled = sent[:]
    chance.shuffle(shuffled)
    assert count_all(shuffled, cuts) == expected


@given(st.lists(values, max_size=60), st.lists(st.integers(0, 60), max_size=4), st.integers(0, 60))
def test_verdicts_that_are_joined_count_like_one(sent: list[Any], cuts: list[int], begin: int) -> None:
    """Wherever batches end, and from wherever the sum is wanted: the counts, and all that is told beside them."""
    wire, seen, one_seen = Wire(sent), SeenIds(HORIZON_MS), SeenIds(HORIZON_MS)
    validator = wire.validator()
    bounds = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    ranges = list(pairwise(bounds)) or [(0, 0)]
    batches = [RecordBatch(0, first, until, Records.of(wire.records(first, until))) for first, until in ranges]
    together = joined([validator(batch, seen, NOW) for batch in batches])
    whole = wire.validated(one_seen, 0, len(sent))
    for offset in (0, begin):
        found = aggregate(together, WINDOW_MS, 10_000, NOW, from_offset=offset)
        assert found == aggregate(whole, WINDOW_MS, 10_000, NOW, from_offset=offset)


@given(st.lists(st.tuples(good_events, st.integers(0, 3)), max_size=60))
def test_any_split_into_partitions_gives_the_same_totals(sent: list[tuple[Any, int]]) -> None:
    """Partitions, counted apart and added up, equal one count of everything."""
    partitions: list[list[Any]] = [[], [], [], []]
    for number, (one, partition) in enumerate(sent):
        partitions[partition].append(one | {"event_id": f"u{number}"})
    counts, durations = zip(*(count_all(part, []) for part in partitions), strict=True)
    assert (merged(counts), merged(durations)) == naive(chain(*partitions))


@given(st.lists(values, max_size=60))
def test_every_record_is_accepted_rejected_or_a_duplicate_exactly_once(sent: list[Any]) -> None:
    """The offsets of the three verdicts are those of the batch, none twice; the counts' sum is the accepted."""
    validated = Wire(sent).validated(SeenIds(HORIZON_MS), 0, len(sent))
    offsets = validated.accepted.offsets.tolist() + validated.duplicates.tolist()
    offsets += [rejected.record.offset for rejected in validated.rejected]
    assert sorted(offsets) == list(range(len(sent)))
    counted = aggregate(validated, WINDOW_MS, 10_000, NOW)
    assert counted.accepted + counted.rejected + counted.duplicates == len(sent)
    assert sum(sum(numbers[:3]) for numbers in counted.counts.by_name().values()) == counted.accepted
    ids = [sent[offset]["event_id"] for offset in validated.accepted.offsets]
    assert len(set(ids)) == len(ids)


@given(st.lists(values, max_size=60), st.integers(0, 60))
def test_a_tally_from_an_offset_on_counts_only_what_follows(sent: list[Any], begin: int) -> None:
    """What somebody else has counted is left out, and both parts together are the whole."""
    begin = min(begin, len(sent))
    wire = Wire(sent)
    validated = wire.validated(SeenIds(HORIZON_MS), 0, len(sent))
    rest = aggregate(validated, WINDOW_MS, 10_000, NOW, from_offset=begin)
    whole = aggregate(validated, WINDOW_MS, 10_000, NOW)
    first = aggregate(wire.validated(SeenIds(HORIZON_MS), 0, begin), WINDOW_MS, 10_000, NOW)
    assert (rest.start_offset, rest.next_offset) == (begin, len(sent))
    assert merged([first.counts.by_name(), rest.counts.by_name()]) == whole.counts.by_name()
    assert merged([first.counts.durations(), rest.counts.durations()]) == whole.counts.durations()
    for name in ("accepted", "rejected", "duplicates"):
        assert getattr(first, name) + getattr(rest, name) == getattr(whole, name)


@given(st.lists(good_events, min_size=1, max_size=40), st.integers(0, 40))
def test_a_reader_that_warms_up_validates_like_one_that_read_everything(sent: list[Any], begin: int) -> None:
    """Duplicates across a restart are the same as without it."""
    begin = min(begin, len(sent))
    wire = Wire(sent)
    through = wire.validated(SeenIds(HORIZON_MS), 0, len(sent))
    seen = SeenIds(HORIZON_MS)
    wire.validated(seen, 0, begin)
    after = wire.validated(seen, begin, len(sent))
    assert after.duplicates.tolist() == [offset for offset in through.duplicates if offset >= begin]


def are_new(seen: SeenIds, sightings: list[tuple[int, int]], cuts: list[int]) -> list[bool]:
    """What is said of ids at their times, when they are asked for in pieces."""
    found: list[bool] = []
    for first, until in pairwise(sorted({0, len(sightings), *(cut for cut in cuts if cut < len(sightings))})):
        ids, times = zip(*sightings[first:until], strict=True)
        rows = seen_at(digests_of([str(one) for one in ids]), times)
        found += seen.are_new(rows, 2**60).tolist()
    return found


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 70)), max_size=80),
    st.integers(1, 100),
    st.integers(0, 80),
    st.lists(st.integers(0, 80), max_size=6),
)
def test_ids_are_duplicates_within_the_horizon_wherever_reading_began(
    steps: list[tuple[int, int]], horizon: int, begin: int, cuts: list[int]
) -> None:
    """The two generations agree with a plain list of all sightings, also when only one horizon was read before."""
    time = 0
    sightings: list[tuple[int, int]] = []
    for number, pause in steps:
        time += pause
        sightings.append((number, time))
    expected = [
        not any(other == number and then >= at - horizon for other, then in sightings[:index])
        for index, (number, at) in enumerate(sightings)
    ]
    assert are_new(SeenIds(horizon), sightings, cuts) == expected
    begin = min(begin, len(sightings))
    warm_from = sightings[begin - 1][1] - horizon if begin else 0
    again = SeenIds(horizon)
    are_new(again, [one for one in sightings[:begin] if one[1] >= warm_from], cuts)
    assert are_new(again, sightings[begin:], cuts) == expected[begin:]


@given(st.lists(st.text(max_size=3), max_size=300), st.integers(1, 20))
def test_remembered_ids_stay_within_their_bound(ids: list[str], limit: int) -> None:
    """At most two generations of ids are held, and an id that is remembered is never taken for new."""
    seen = SeenIds(1_000, limit)
    for number, event_id in enumerate(ids):
        rows = seen_at(digests_of([event_id]), [number])
        seen.are_new(rows, number)
        assert len(seen) <= 2 * limit
        assert not seen.are_new(rows, number).any()


@given(st.integers(-(2**62), 2**62), st.integers(1, 10**9))
def test_a_time_belongs_to_exactly_one_half_open_window(ts: int, window_ms: int) -> None:
    """``start <= ts < start + window``; the start is in its window and the end in the next."""
    start = window_start(ts, window_ms)
    assert start <= ts < start + window_ms
    assert start % window_ms == 0
    assert window_start(start, window_ms) == start
    assert window_start(start + window_ms, window_ms) == start + window_ms
    through = last_closed(ts, window_ms)
    assert through <= ts
    assert through + window_ms > ts


partition_states = st.dictionaries(
    st.integers(0, 3), st.tuples(st.none() | st.integers(0, 1000), st.booleans()), min_size=4, max_size=4
)


@given(
    partition_states, st.integers(0, 2000), st.dictionaries(st.integers(0, 3), st.integers(0, 500)), st.integers(0, 99)
)
def test_the_watermark_never_goes_back_while_partitions_go_on(
    state: dict[int, tuple[int | None, bool]], now: int, advance: dict[int, int], later: int
) -> None:
    """With the same partitions idle, later watermarks of partitions and a later clock give a later whole."""
    before = {number: PartitionWatermark(mark, idle) for number, (mark, idle) in state.items()}
    after = {
        number: PartitionWatermark((one.watermark or 0) + advance.get(number, 0), one.idle)
        for number, one in before.items()
    }
    first = topic_watermark(before, 4, 10, now)
    second = topic_watermark(after, 4, 10, now + later)
    assert second is not None
    assert first is None or second >= first
    assert topic_watermark(before, 5, 10, now) is None


@given(st.lists(good_events, min_size=1, max_size=20), st.integers(0, 60_000))
def test_a_batch_brings_the_watermark_no_further_than_its_largest_time_and_the_clock(
    sent: list[Any], disorder: int
) -> None:
    """The disorder is taken off, and a clock that runs ahead closes nothing."""
    validated = Wire(unique(sent)).validated(SeenIds(0), 0, len(sent))
    assert watermark_of(validated, disorder, NOW) == min(max(one["ts"] for one in sent), NOW) - disorder


series = st.builds(
    lambda step, os, country: Series.of("f", step, os=os, country=country),
    st.sampled_from("ab"),
    st.sampled_from("cd"),
    st.sampled_from(["", "1"]),
)
named_series = st.builds(
    lambda step, values: Series.of("f", step, **values),
    st.text(max_size=3),
    st.dictionaries(st.sampled_from(["os", "browser", "app_version", "country", "plan"]), st.text(max_size=3)),
)
tallies = st.builds(CountRow, *[st.integers(0, 9)] * len(CountRow._fields))


@given(st.lists(st.dictionaries(series, tallies, max_size=4), max_size=12), st.integers(0, 5))
def test_a_closed_window_shows_every_series_seen_within_the_horizon(
    closed: list[dict[Series, CountRow]], horizon: int
) -> None:
    """Counts where there are some, zeros where there were some lately, nothing else; None where nothing is active."""
    active = ActiveSeries(horizon * WINDOW_MS, {})
    for number, counts in enumerate(closed):
        shown = active.close("f", number * WINDOW_MS, WINDOW_MS, 0, counts)
        expected = {one for earlier in closed[max(0, number - horizon) : number + 1] for one in earlier}
        assert set(shown.series if shown else {}) == expected
        assert len(active) == len(expected)
        if shown:
            assert shown.window_end == (number + 1) * WINDOW_MS
            assert all(shown.series[one] == counts.get(one, CountRow()) for one in expected)


@settings(max_examples=50)
@given(
    st.dictionaries(named_series, tallies, max_size=12),
    st.integers(1, 5),
    st.integers(0, 11),
)
def test_a_window_in_parts_is_put_together_again_and_never_from_incomplete_parts(
    counts: dict[Series, CountRow], most: int, lost: int
) -> None:
    """Any size of parts gives the same window; with a part lost, or begun twice, nothing wrong comes out."""
    window = ClosedWindow("f", 60_000, 120_000, 3, counts)
    parts = list(parts_of(window, most))
    assert all(len(part["series"]) <= most for part in parts)
    assembler = Assembler()
    assert [assembler.add(part) for part in parts] == [None] * (len(parts) - 1) + [window]
    begun_twice = [*parts[:-1], *parts]
    assert [found for part in begun_twice if (found := assembler.add(part))] == [window]
    missing = [part for part in parts if part["part"] != lost % len(parts)]
    without = Assembler()
    assert not any(without.add(part) for part in missing)
    if len(parts) > 2:
        assert not any(map(Assembler().add, [*parts[:-1], parts[-2]]))


@given(sent=st.lists(values, max_size=30), start=st.integers(0, 30))
def test_what_is_rejected_and_could_be_an_event_is_noted(sent: list[Any], start: int) -> None:
    """Exactly the rejected records that decode are noted by offset, from where the aggregate starts."""
    validated = Wire(sent).validated(SeenIds(HORIZON_MS), 0, len(sent))
    noted = aggregate(validated, WINDOW_MS, 0, NOW, from_offset=start).rejected_offsets
    rejected = [rejected.record.offset for rejected in validated.rejected if rejected.record.offset >= start]
    assert noted == [offset for offset in rejected if sent[offset] != "garbage"]
