"""Samples of counters and timers: what is rejected in the caller, and how a series is named."""

from __future__ import annotations

from typing import Any

import pytest

from funnelwatch import Metric, MetricKind
from funnelwatch.schemas.codec import Decoder, Encoder
from funnelwatch.schemas.metrics import MAX_VALUE, series_name


def metric(**changes: Any) -> Metric:
    """A good sample, with some fields changed."""
    return Metric(**{"name": "sms_sent", "kind": MetricKind.COUNTER, "dimensions": {"os": "iOS"}} | changes)


def test_a_sample_is_the_same_after_the_wire() -> None:
    """Every field, and times as whole milliseconds."""
    sent = metric(kind=MetricKind.TIMER, value=850, ts=1_700_000_000_000).record()
    assert Decoder("Metric")(Encoder("Metric")(sent)) == sent


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "sms sent"}, "name: 'sms sent' is not a name"),
        ({"name": ""}, "name: '' is not a name"),
        ({"name": "n" * 101}, "name: .* up to 100"),
        ({"kind": "GAUGE"}, "kind: 'GAUGE' is not one of COUNTER, TIMER"),
        ({"value": -1}, "value: -1 is not between 0 and 1000000000"),
        ({"value": MAX_VALUE + 1}, "value: 1000000001 is not between"),
        ({"value": 1.5}, "value: 1.5 is not a whole number"),
        ({"dimensions": {f"d{number}": "x" for number in range(9)}}, "dimensions: 9 are more than 8"),
        ({"dimensions": {"o-s": "iOS"}}, "dimensions: 'o-s' is not a name"),
        ({"dimensions": {"os": ""}}, "dimensions: os has 0 characters"),
        ({"dimensions": {"os": "x" * 101}}, "dimensions: os has 101 characters"),
        ({"dimensions": {"os": "a\0"}}, "dimensions: os has 2 characters or a NUL"),
        ({"dimensions": {"os": 1}}, "dimensions.*os.*1 is not a string"),
        ({"event_id": ""}, "event_id: is missing"),
    ],
)
def test_what_cannot_be_is_rejected_with_the_field_and_what_is_right(changes: dict[str, Any], message: str) -> None:
    """In the caller, before anything is sent."""
    with pytest.raises(ValueError, match=message):
        metric(**changes)


def test_a_series_is_named_as_prometheus_names_it_whatever_the_order() -> None:
    """Dimensions are sorted, quotes are escaped; the name alone where there are none."""
    assert series_name("sms_sent", {"os": "iOS", "app": 'a"b'}) == 'sms_sent{app="a\\"b",os="iOS"}'
    assert series_name("sms_sent", {}) == "sms_sent"
