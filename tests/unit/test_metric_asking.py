"""Questions about counters and timers, without a database."""

from __future__ import annotations

import pytest

from funnelwatch.query import metrics
from funnelwatch.query.metrics import MetricQuery, MetricResult, in_order, some
from funnelwatch.query.parameters import BadQueryError, parse_where
from funnelwatch.sinks.timescale.metric_counts import MetricTotal

MINUTE_MS = 60_000


def total(os: str = "iOS", start: int | None = None, **changes: object) -> MetricTotal:
    """Thirty of a counter, in three samples."""
    given = {"name": "sms_sent", "kind": "COUNTER", "samples": 3, "total": 30, "quantiles": {}, "first_seen": 0}
    return MetricTotal(**(given | {"dimensions": {"os": os}, "start_ms": start} | changes))  # type: ignore[arg-type]


def answer(*totals: MetricTotal, now_ms: int = 10 * MINUTE_MS, every_ms: int | None = None) -> MetricResult:
    """About the first three minutes that ever were."""
    question = MetricQuery("sms_sent", 0, 3 * MINUTE_MS, now_ms, ("os",), {}, every_ms)
    return MetricResult(question, 0, 3 * MINUTE_MS, MINUTE_MS, totals)


@pytest.mark.parametrize(
    ("now_ms", "every_ms", "start", "per_second"),
    [
        (10 * MINUTE_MS, None, None, 30 / 180),
        (10 * MINUTE_MS, MINUTE_MS, MINUTE_MS, 30 / 60),
        (150_000, None, None, 30 / 150),  # half of the last minute has passed
        (150_000, 2 * MINUTE_MS, 2 * MINUTE_MS, 30 / 30),
        (10 * MINUTE_MS, 2 * MINUTE_MS, 2 * MINUTE_MS, 30 / 60),  # the range ends within the span
        (0, None, None, 30 / 180),  # nothing has passed: dated ahead
    ],
)
def test_a_second_is_one_of_those_that_have_passed(
    now_ms: int, every_ms: int | None, start: int | None, per_second: float
) -> None:
    """Of the whole range or of a span, without what is still to come of it."""
    [row] = answer(total(start=start), now_ms=now_ms, every_ms=every_ms).rows()
    assert row["per_second"] == pytest.approx(per_second)


def test_a_timer_tells_its_samples_a_second_and_its_mean() -> None:
    """Its total is of milliseconds; without samples there is no mean."""
    quantiles = {0.5: 9.0, 0.9: 12.0, 0.99: 13.0}
    some_ms = total(kind="TIMER", quantiles=quantiles)
    none = total(kind="TIMER", samples=0, total=0)
    first, second = answer(some_ms, none).rows()
    assert first["per_second"] == pytest.approx(3 / 180)
    assert [first[f"{name}_ms"] for name in ("mean", "p50", "p90", "p99")] == [10, 9, 12, 13]
    assert [second[f"{name}_ms"] for name in ("mean", "p50", "p90", "p99")] == [None] * 4


def test_spans_without_samples_are_zeros_of_the_series_that_there_are() -> None:
    """By dimension, then by time; nothing is made up for a series that has no sample at all."""
    found = [total("iOS", MINUTE_MS), total("Android", 0)]
    filled = in_order(found, ["os"], range(0, 2 * MINUTE_MS, MINUTE_MS))
    assert [(one.dimensions["os"], one.start_ms, one.total) for one in filled] == [
        ("Android", 0, 30),
        ("Android", MINUTE_MS, 0),
        ("iOS", 0, 0),
        ("iOS", MINUTE_MS, 30),
    ]
    assert in_order([], ["os"], range(0, 2 * MINUTE_MS, MINUTE_MS)) == []


@pytest.mark.parametrize(("starts", "parameter"), [(range(3), "every"), (None, "by")])
def test_too_many_rows_are_rejected(monkeypatch: pytest.MonkeyPatch, starts: range | None, parameter: str) -> None:
    """Zeros count as well; the message says what to ask for instead."""
    monkeypatch.setattr(metrics, "MOST_ROWS", 2)
    found = [total(os) for os in ("a", "b", "c")] if starts is None else [total(start=0)]
    with pytest.raises(BadQueryError, match=f"^{parameter}: .*fewer dimensions"):
        in_order(found, ["os"], starts)


def test_a_dimension_s_column_is_never_another_column() -> None:
    """A dimension may be called as a field is."""
    question = MetricQuery("x", 0, MINUTE_MS, MINUTE_MS, ("total",))
    one = MetricTotal("x", "COUNTER", {"total": "a,b"}, 1, 2, {}, 0)
    table = MetricResult(question, 0, MINUTE_MS, MINUTE_MS, [one]).as_csv().splitlines()
    assert table[0] == "name,kind,dimensions.total,samples,total,per_second"
    assert table[1].startswith('x,COUNTER,"a,b",1,2,')


def test_a_condition_is_a_name_and_a_value() -> None:
    """Empty means without; anything else says what would be right."""
    assert parse_where(["os=iOS", "provider=a=b", "country="]) == {"os": "iOS", "provider": "a=b", "country": ""}
    with pytest.raises(ValueError, match="'os' is not NAME=VALUE, such as os=iOS"):
        parse_where(["os"])
    with pytest.raises(ValueError, match="os occurs more than once"):
        parse_where(["os=iOS", "os=Android"])


def test_many_names_are_cut_short() -> None:
    """With how many there are beside."""
    assert some(["a", "b"]) == "a, b"
    assert some([str(number) for number in range(25)]).endswith("19, 5 more")
