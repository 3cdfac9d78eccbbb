"""Counting of counters and timers, for any samples and any cut; and the bound on how many there may be."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from funnelwatch.schemas.codec import Decoder, Encoder
from funnelwatch.schemas.metric_counts import MetricSeries, admitted
from funnelwatch.schemas.validation import Limits, RejectedError
from funnelwatch.sinks.timescale.counts import merged
from funnelwatch.stream.aggregate.metric_validator import MetricValidator, ValidatedMetrics, aggregate_metrics, settled
from funnelwatch.stream.intake.batches import Record, RecordBatch, Records
from funnelwatch.stream.intake.duplicates import SeenIds
from tests.traffic import BORDERS

NOW = 1_700_000_000_000
WINDOW_MS = 60_000
ENCODE = Encoder("Metric")
VALIDATE = MetricValidator(Decoder("Metric"), Limits(300_000, 86_400_000), 1_000_000)

series = st.builds(
    MetricSeries.of,
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["COUNTER", "TIMER"]),
    st.dictionaries(st.sampled_from(["os", "provider"]), st.sampled_from(["x", "y", "z"]), max_size=2),
)
samples = st.fixed_dictionaries(
    {
        "event_id": st.integers(0, 60).map(str),
        "name": st.sampled_from(["a", "b"]),
        "value": st.integers(0, 10_000),
        "dimensions": st.dictionaries(st.just("os"), st.sampled_from(["x", "y"]), max_size=1),
        "ts": st.integers(NOW - 400_000, NOW + 300_000),
    }
).map(lambda one: one | {"kind": "COUNTER" if one["name"] == "a" else "TIMER"})


def validated(
    sent: list[Any], first: int, until: int, seen: SeenIds, numbers: dict[MetricSeries, int]
) -> ValidatedMetrics:
    """The verdict on some of the records; every series may be."""
    records = [Record(at, b"k", ENCODE(sent[at]), NOW - 1_000 + at) for at in range(first, until)]
    read = VALIDATE(RecordBatch(0, first, until, Records.of(records)), NOW)
    for _, one, _ in read.read:
        numbers.setdefault(one, len(numbers))
    return settled(read, {}, seen, NOW)


def by_hand(sent: list[Any], numbers: dict[MetricSeries, int]) -> tuple[dict[Any, list[int]], dict[Any, int]]:
    """An independent group-by of the first of each id."""
    counts: dict[Any, list[int]] = {}
    took: dict[Any, int] = {}
    for one in {one["event_id"]: one for one in reversed(sent)}.values():
        key = one["ts"] // WINDOW_MS * WINDOW_MS, numbers[MetricSeries.of(one["name"], one["kind"], one["dimensions"])]
        kept = counts.setdefault(key, [0, 0])
        kept[:] = kept[0] + 1, kept[1] + one["value"]
        if one["kind"] == "TIMER":
            place = (*key, sum(border <= one["value"] for border in BORDERS) - 1)
            took[place] = took.get(place, 0) + 1
    return counts, took


@given(st.lists(samples, max_size=40), st.lists(st.integers(0, 40), max_size=4), st.integers(0, 40))
def test_any_cut_and_any_trim_give_what_an_independent_group_by_gives(
    sent: list[Any], cuts: list[int], trim: int
) -> None:
    """Each id once; a batch that is tallied from an offset on has exactly what follows."""
    numbers: dict[MetricSeries, int] = {}
    seen = SeenIds(600_000)
    parts = []
    for first, until in pairwise(sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})):
        verdict = validated(sent, first, until, seen, numbers)
        whole = aggregate_metrics(verdict, numbers, WINDOW_MS, NOW)
        rest = aggregate_metrics(verdict, numbers, WINDOW_MS, NOW, from_offset=trim)
        before = [one for one in verdict.accepted if one.offset < max(first, trim)]
        assert rest.place.accepted + len(before) == whole.place.accepted
        assert sum(counted[1] for counted in rest.samples.values()) + sum(one.value for one in before) == sum(
            counted[1] for counted in whole.samples.values()
        )
        assert whole.place.accepted + whole.place.duplicates == until - first
        parts.append(whole)
    counts, took = by_hand(sent, numbers)
    assert merged(part.samples for part in parts) == counts
    found = merged(part.durations for part in parts)
    assert {place: number for place, [number] in found.items()} == took


@given(st.lists(series, max_size=30), st.integers(1, 3), st.integers(1, 4), st.integers(0, 10))
def test_there_are_never_more_names_or_series_than_allowed_and_what_is_there_stays(
    wanted: list[MetricSeries], max_names: int, max_series: int, cut: int
) -> None:
    """Asked for in two rounds: a name keeps its kind, a series its number, and rejections have a reason."""
    known: dict[MetricSeries, int] = {}

    def make(one: MetricSeries) -> int:
        known[one] = len(known)
        return known[one]

    for part in (wanted[:cut], wanted[cut:]):
        before = dict(known)
        names = len({one.name for one in before})
        found = admitted(part, before, names, make, max_names, max_series)
        assert set(found) == set(part)
        for one, admission in found.items():
            assert known[one] == admission if one in known else isinstance(admission, RejectedError)
        assert before.items() <= known.items()
    names_now = {one.name for one in known}
    assert len(names_now) <= max_names
    assert len({(one.name, one.kind) for one in known}) == len(names_now)
    assert all(sum(one.name == name for one in known) <= max_series for name in names_now)
