"""What the benchmark of delays reckons from what it has seen, and the load that it starts."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from funnelwatch.schemas.codec import Decoder
from tests.bench.latency.delays import (
    ENOUGH_FOR_P99,
    Change,
    Due,
    Sample,
    alert_delays,
    changes,
    slower,
    summary,
    throughput,
)
from tests.bench.load import as_long, templates

WINDOW_MS = 1_000
DUE = Due(disorder_ms=2_000, since_ms=0, until_ms=100_000)


def message(window: int, os: str, state: str, rule: str = "R") -> dict[str, Any]:
    """What counts of an alert's message."""
    return {"rule": rule, "window_start": window, "dimensions": {"os": os}, "state": state}


def test_the_99th_percentile_is_told_of_a_hundred_delays_and_not_of_fewer() -> None:
    """Of fewer it would be about the largest."""
    delays = [float(number) for number in range(1, ENOUGH_FOR_P99 + 1)]

    assert summary(delays) == {"n": 100, "p50": 50, "p99": 99, "max": 100}
    assert summary(delays[:-1]) == {"n": 99, "p50": 50, "p99": None, "max": 99}
    assert summary([]) == {"n": 0, "p50": None, "p99": None, "max": None}


def test_an_alert_must_come_where_conversion_has_crossed_the_threshold_and_nowhere_else() -> None:
    """Nothing has to be said of a series that begins well, or of one that stays as it was."""
    made = [
        (0, "a", False), (0, "b", True),
        (1_000, "a", True), (1_000, "b", True),
        (3_000, "a", False), (3_000, "b", False),
    ]  # fmt: skip

    assert changes(made) == {
        Change(0, "b", "firing"),
        Change(1_000, "a", "firing"),
        Change(3_000, "a", "resolved"),
        Change(3_000, "b", "resolved"),
    }


def test_an_alert_s_delay_is_from_its_window_s_end_and_the_disorder_to_its_first_message() -> None:
    """A message that is repeated, one of another rule and one of another state do not count."""
    expected = {Change(5_000, "a", "firing"), Change(6_000, "a", "resolved")}
    read = [
        (message(5_000, "a", "firing", rule="Other"), 8_001.0),
        (message(5_000, "a", "firing"), 8_120.0),
        (message(5_000, "a", "firing"), 9_990.0),
        (message(6_000, "a", "firing"), 9_010.0),
        (message(6_000, "a", "resolved"), 9_300.0),
    ]

    found = alert_delays(expected, read, "R", WINDOW_MS, DUE)

    assert found == {"n": 2, "p50": 210, "p99": None, "max": 300, "windows": 2, "missing": 0}


def test_an_alert_that_did_not_come_is_counted_as_missing() -> None:
    """Unless its window was not due while it was measured."""
    expected = {Change(5_000, "a", "firing"), Change(97_000, "a", "resolved")}

    found = alert_delays(expected, [], "R", WINDOW_MS, DUE)

    assert (found["n"], found["missing"]) == (0, 1)


def test_a_window_counts_from_the_first_moment_of_measuring_to_before_the_last() -> None:
    """It is due at its end and the disorder; what comes earlier than that has a negative delay."""
    due = Due(disorder_ms=2_000, since_ms=10_000, until_ms=12_000)

    assert [due.delay(end, 13_000.0) for end in (7_999, 8_000, 9_999, 10_000)] == [None, 3_000, 1_001, None]


def samples(rate: int, counted_rate: int, delay_s: float) -> list[Sample]:
    """Of twelve seconds."""
    return [
        Sample(at, round(at * rate), max(0, round((at - delay_s) * counted_rate))) for at in map(float, range(5, 18))
    ]


def test_a_rate_is_kept_up_with_while_the_lag_stays_as_it_is() -> None:
    """However long it is, it must not grow."""
    found = throughput(samples(10_000, 10_000, 0.7), 10_000)

    assert found == {
        "asked": 10_000, "reached": 10_000, "counted": 10_000, "lag_s": 0.7, "lag_grew_s": 0.0, "kept_up": True,
    }  # fmt: skip


def test_a_rate_at_which_the_lag_grows_is_not_kept_up_with_and_a_slower_one_is_tried() -> None:
    """The next is a little below what was counted a second."""
    found = throughput(samples(10_000, 8_000, 0.0), 10_000)

    assert (found["reached"], found["counted"], found["kept_up"]) == (10_000, 8_000, False)
    assert found["lag_grew_s"] == pytest.approx(1.8)
    assert slower(found) == 7_000


def test_a_load_that_does_not_reach_its_rate_is_told_as_what_it_reached() -> None:
    """The rate that was asked for stands beside it."""
    found = throughput(samples(6_000, 6_000, 0.1), 10_000)

    assert (found["asked"], found["reached"], found["kept_up"]) == (10_000, 6_000, True)


def test_the_load_s_events_are_whole_with_an_id_and_a_time_of_their_own() -> None:
    """What is put between the parts of a template reads as the event's id and ts."""
    ts, own = 1_795_398_952_466, str(uuid.uuid4())

    events = [
        Decoder("FunnelEvent")(before + own.encode() + between + as_long(ts) + after)
        for before, between, after in templates(50)
    ]

    assert {(event["event_id"], event["ts"]) for event in events} == {(own, ts)}
    assert {event["phase"] for event in events} == {"IMPRESSION", "POST_VERIFICATION"}
    assert {event["duration_ms"] is None for event in events if event["phase"] == "IMPRESSION"} == {True}
