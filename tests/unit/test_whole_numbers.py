"""Numbers as JSON, JavaScript and spreadsheets write them, where a whole number is asked for."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.producers.client.producer import FunnelProducer
from funnelwatch.producers.files.importing import Account, events_of
from funnelwatch.producers.files.mapper import Mapper
from funnelwatch.producers.files.mapping import Mapping
from funnelwatch.producers.files.own_rows import own_row
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.events import FunnelEvent, Phase, Status
from funnelwatch.schemas.metrics import Metric, MetricKind
from funnelwatch.schemas.settings import Settings
from funnelwatch.schemas.whole import whole, whole_text
from tests.collector_in_process import Asked, app_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = wall_clock_ms()
SHOWN = {"sign_up_session_id": "s-1", "step": "INPUT_NAME", "phase": "IMPRESSION"}
VERIFIED = {**SHOWN, "phase": "POST_VERIFICATION", "status": "SUCCESS"}
TAKEN = [
    ("1500", 1_500),
    ("1500.0", 1_500),
    ("1500.000", 1_500),
    ("1.5e3", 1_500),
    ("15E+2", 1_500),
    ("1500.4", 1_500),
    ("1500.6", 1_501),
    ("1500.5", 1_500),
    ("0.3", 0),
    ("-0.0", 0),
    ("0", 0),
]
"""Durations as text, and what they are."""

REJECTED = ["NaN", "Infinity", "-Infinity", "1e400", "-1.0", "1e300", '"1500 ms"', "true", "[1]", "{}"]
"""Durations that are none, in JSON."""


def collected(body: str, way: str = "/v1/events") -> tuple[int, list[dict[str, Any]], str]:
    """The status, the events that were taken, and the answer."""
    app = app_of()
    asked = Asked(app, way, body.encode())
    return asked.status, app.state.delivery.taken, asked.text


def event_text(**numbers: str) -> str:
    """A verification in JSON with numbers as they are written."""
    known = {"ts": str(NOW), **numbers}
    return json.dumps(VERIFIED)[:-1] + "".join(f', "{name}": {text}' for name, text in known.items()) + "}"


def rows(text: str, name: str, tmp_path: Path) -> tuple[list[dict[str, Any]], Account]:
    """The events of a file."""
    path = tmp_path / name
    path.write_text(text)
    account = Account()
    return list(events_of([str(path)], partial(own_row, funnel=None), account)), account


@pytest.mark.parametrize(("text", "expected"), TAKEN)
def test_the_collector_takes_a_duration_as_any_number(text: str, expected: int) -> None:
    """A fraction is rounded: browsers measure it."""
    status, (event,), answer = collected(event_text(duration_ms=text))
    assert (status, event["duration_ms"]) == (200, expected), answer
    assert type(event["duration_ms"]) is int


@pytest.mark.parametrize("text", REJECTED)
def test_the_collector_names_a_duration_that_is_none(text: str) -> None:
    """By its field."""
    status, taken, answer = collected(event_text(duration_ms=text))
    assert (status, taken) == (400, [])
    assert json.loads(answer)["events"][0]["field"] == "duration_ms"


@pytest.mark.parametrize("text", [f"{NOW}.0", f"{NOW}.0000", f"{NOW / 1000}e3", f"{NOW}.2", f'"{NOW}"'], ids=range(5))
def test_the_collector_takes_a_time_as_any_number(text: str) -> None:
    """Of the event, and of the sender's clock."""
    status, (event,), answer = collected(event_text(ts=text))
    assert (status, event["ts"]) == (200, NOW), answer
    body = f'{{"events": [{event_text()}], "sent_at": {text}}}'
    assert collected(body)[0] == 200


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e400", "true", "1.5", "1e300"])
def test_the_collector_names_a_time_that_is_none(text: str) -> None:
    """By its field."""
    status, _, answer = collected(event_text(ts=text))
    assert status == 400
    assert json.loads(answer)["events"][0]["field"] == "ts"


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("COUNTER", "3", 3),
        ("COUNTER", "3.0", 3),
        ("COUNTER", "3e2", 300),
        ("COUNTER", "3.5", None),
        ("COUNTER", "NaN", None),
        ("TIMER", "850.0", 850),
        ("TIMER", "850.7", 851),
        ("TIMER", "1e400", None),
    ],
)
def test_the_collector_takes_a_value_as_any_number(kind: str, text: str, expected: int | None) -> None:
    """A time is rounded; an increment must be whole."""
    status, taken, answer = collected(f'{{"kind": "{kind}", "name": "m", "value": {text}, "ts": {NOW}.0}}')
    assert status == (400 if expected is None else 200), answer
    assert [sample["value"] for sample in taken] == ([] if expected is None else [expected])


@pytest.mark.parametrize(("text", "expected"), TAKEN)
@pytest.mark.parametrize("name", ["events.jsonl", "events.csv"])
def test_files_have_durations_and_times_as_any_number(text: str, expected: int, name: str, tmp_path: Path) -> None:
    """Numbers of JSON, and texts of CSV."""
    if name.endswith("jsonl"):
        content = event_text(duration_ms=text, ts=f"{NOW}.0")
    else:
        values = ",".join(VERIFIED.values())
        content = f"{','.join(VERIFIED)},ts,duration_ms\n{values},{NOW}.0,{text}\n"
    (event,), account = rows(content, name, tmp_path)
    assert (event["ts"], event["duration_ms"]) == (NOW, expected), account.examples


@pytest.mark.parametrize("text", ["NaN", "inf", "1e400", "1500 ms", "1,5", "1" * 5_000, "0x10"])
def test_a_file_s_duration_that_is_none_is_rejected(text: str, tmp_path: Path) -> None:
    """With the field."""
    values = ",".join(VERIFIED.values())
    made, account = rows(f'{",".join(VERIFIED)},ts,duration_ms\n{values},{NOW},"{text}"\n', "events.csv", tmp_path)
    assert (made, account.rejected.total()) == ([], 1)
    assert "duration_ms: " in account.examples["BAD_FIELD"][0]


@pytest.mark.parametrize(
    ("unit", "given", "expected"),
    [
        ("ms", f"{NOW}.0", NOW),
        ("ms", float(NOW), NOW),
        ("s", "1795706937.144", 1_795_706_937_144),
        ("s", 1_795_706_937, 1_795_706_937_000),
        ("s", "1.795706937e9", 1_795_706_937_000),
        ("ms", True, None),
        ("s", math.nan, None),
        ("s", "inf", None),
    ],
    ids=range(8),  # a name with the time in it would be another in each of several test processes
)
def test_a_mapping_has_times_as_any_number(unit: str, given: object, expected: int | None, tmp_path: Path) -> None:
    """Seconds or milliseconds."""
    mapping = Mapping.model_validate(
        {
            "funnel": "f",
            "session_id": "s",
            "ts": {"column": "t", "format": unit},
            "event": "e",
            "events": {"a": [{"step": "A", "phase": "IMPRESSION"}]},
        }
    )
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"s": "s-1", "t": given, "e": "a"}))
    account = Account()
    made = list(events_of([str(path)], Mapper(mapping), account))
    assert [event["ts"] for event in made] == ([] if expected is None else [expected]), account.examples


def test_an_event_in_python_takes_whole_floats_and_rounds_durations() -> None:
    """A fraction of a time is rejected."""
    event = FunnelEvent(
        sign_up_session_id="s", step="A", phase=Phase.POST_VERIFICATION, status=Status.SUCCESS,
        ts=float(NOW), duration_ms=12.7,  # type: ignore[arg-type] - what is tested
    )  # fmt: skip
    assert (event.ts, event.duration_ms) == (NOW, 13)
    with pytest.raises(ValueError, match=r"ts: .*\.5 is not a whole number"):
        FunnelEvent(sign_up_session_id="s", step="A", phase=Phase.IMPRESSION, ts=NOW + 0.5)  # type: ignore[arg-type]
    assert Metric(name="m", kind=MetricKind.TIMER, value=1.7).value == 2  # type: ignore[arg-type]
    assert Metric(name="m", kind=MetricKind.COUNTER, value=3.0).value == 3  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"value: 1\.7 is not a whole number"):
        Metric(name="m", kind=MetricKind.COUNTER, value=1.7)  # type: ignore[arg-type]


@pytest.fixture
def producer() -> Iterator[FunnelProducer]:
    """A producer whose Kafka is away."""
    one = FunnelProducer(Settings(kafka_bootstrap_servers="127.0.0.1:9"))
    yield one
    one.close(0)


def test_a_producer_takes_whole_floats(producer: FunnelProducer) -> None:
    """Of events and samples; what is none is rejected by its field."""
    assert producer.emit({**VERIFIED, "ts": float(NOW), "duration_ms": 1500.5})
    assert producer.record(name="m", kind="TIMER", value=1.5, ts=float(NOW))
    with pytest.raises(ValueError, match="duration_ms: nan is not a whole number"):
        producer.emit({**VERIFIED, "duration_ms": math.nan})


def test_what_is_no_whole_number_stays_as_it_is() -> None:
    """For the checks to name."""
    for value in (True, None, "1.0", math.inf, 1.5):
        assert whole(value) is value
    assert math.isnan(whole(math.nan, rounded=True))
    assert [whole_text(text) for text in ("x", "", "1.5", "١٢")] == ["x", "", "1.5", 12]


def test_the_description_says_number() -> None:
    """As browsers send them."""
    from funnelwatch.producers.collector.events import EVENT_SCHEMA, METRIC_SCHEMA

    assert "number" in EVENT_SCHEMA["properties"]["duration_ms"]["type"]
    assert {"type": "number"} in EVENT_SCHEMA["properties"]["ts"]["oneOf"]
    assert METRIC_SCHEMA["properties"]["value"]["type"] == "number"


@pytest.mark.parametrize(
    ("text", "said"),
    [("1e22", "is too large"), (str(2**63), "is too large"), ("9" * 5_000, "a number has too many digits")],
)
@pytest.mark.parametrize("field", ["ts", "duration_ms"])
def test_a_number_that_is_too_large_is_called_so(field: str, text: str, said: str) -> None:
    """It is whole, and a message about the settings of Python helps nobody."""
    status, taken, told = collected(event_text(**{field: text}))
    assert (status, taken) == (400, [])
    assert said in told
    assert "not a whole number" not in told
    assert "set_int_max_str_digits" not in told
