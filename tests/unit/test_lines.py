"""Line protocol to events, counters and timers: the grammar's corners, and the mapping."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.producers.collector.intake import Checks, Invalid
from funnelwatch.producers.collector.line_mapper import LineMapper
from funnelwatch.producers.collector.line_mapping import LinesFileError, load_line_mapping
from funnelwatch.producers.collector.lines import BadLine, Point, parse_lines
from funnelwatch.schemas.funnels import BUILT_IN
from funnelwatch.schemas.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_767_571_200_000
EVENT = f'funnel_event,step=INPUT_NAME,phase=IMPRESSION,os=iOS sign_up_session_id="s-1" {NOW}000000'


def read(text: str) -> list[tuple[int, Point | BadLine]]:
    """Points with their line's number."""
    return list(parse_lines(text, 1))


def test_a_text_in_quotes_may_hold_lines_and_a_wrong_line_harms_no_other() -> None:
    """Numbers are those of the body, as an editor shows them."""
    body = '# first\nm f="a\nb,c=\\"d\\" " 1\n\nwrong\nm2 f=1i 2\n m3,t="x f=true\nm4 f="never ends'
    found = read(body)
    assert [number for number, _ in found] == [2, 5, 6, 7, 8]
    points = [point for _, point in found if isinstance(point, Point)]
    assert [point.fields["f"] for point in points] == ['a\nb,c="d" ', 1, True]
    assert points[2].tags == {"t": '"x'}
    wrong = [point.message for _, point in found if isinstance(point, BadLine)]
    assert wrong[0].startswith("unable to parse 'wrong'")
    assert wrong[1].startswith("unable to parse 'm4 f=\"never ends'")


@pytest.mark.parametrize(
    "line", ["m", "m,t=a", "m f=", "m,t= f=1", ",t=a f=1", "m f=1 x", "m f=abc", "m f=1i2", "m f=1 1 1"]
)
def test_an_invalid_line_is_reported(line: str) -> None:
    """In InfluxDB's words."""
    ((_, found),) = read(line)
    assert isinstance(found, BadLine)
    assert found.message.startswith(f"unable to parse '{line}'")


def test_hostile_bodies_take_no_long_time() -> None:
    """A megabyte of what a careless pattern would try in every way."""
    began = time.process_time()
    for piece in ("\\", '"', 'a="', "\\ ", 'm f="\\', 'm f="\n', ","):
        list(parse_lines(piece * (1_000_000 // len(piece)), 1))
    assert time.process_time() - began < 60


def mapped(line: str, path: Path | None = None) -> dict[str, Any] | Invalid | None:
    """What one line makes."""
    ((_, point),) = read(line)
    assert isinstance(point, Point), point
    return LineMapper(load_line_mapping(path), Checks(Settings(), BUILT_IN)).map(point, NOW)


def made(line: str, path: Path | None = None) -> dict[str, Any]:
    """The event or sample that one line makes."""
    one = mapped(line, path)
    assert isinstance(one, dict), one
    return one


def test_a_mapping_names_further_dimensions(tmp_path: Path) -> None:
    """From a tag, a field or the same for every line; other tags keep their names."""
    path = tmp_path / "lines.yml"
    path.write_text(
        "lines:\n"
        "  - measurement: funnel_event\n"
        "    event: {}\n"
        "    contexts: {country: {from: geo, values: {de: DE}}, tries: n, plan: {value: free}, absent: none}\n"
    )
    event = made(EVENT.replace("os=iOS", "os=iOS,region=eu,geo=de").replace('"s-1"', '"s-1",n=2i'), path)
    assert event["contexts"] == {"region": "eu", "country": "DE", "tries": "2", "plan": "free"}


def test_the_shipped_mapping_takes_events_as_they_are_named() -> None:
    """What is no field of an event is in its contexts."""
    event = made(EVENT.replace("os=iOS", "os=iOS,region=eu").replace('"s-1"', '"s-1",tries=2i,new=true'))
    assert (event["step"], event["os"], event["sign_up_session_id"], event["ts"]) == ("INPUT_NAME", "iOS", "s-1", NOW)
    assert event["contexts"] == {"region": "eu", "tries": "2", "new": "true"}
    verified = made(
        EVENT.replace("IMPRESSION", "POST_VERIFICATION,status=SUCCESS").replace('"s-1"', '"s-1",duration_ms=81.6')
    )
    assert (verified["status"], verified["duration_ms"]) == ("SUCCESS", 82)
    assert made(EVENT.replace("IMPRESSION", "POST_VERIFICATION,status=FAILURE,duration_ms=7"))["duration_ms"] == 7


def test_a_point_with_a_time_is_the_same_event_whenever_it_is_sent() -> None:
    """Telegraf sends a batch again that was answered too late; another point has another id."""
    assert made(EVENT)["event_id"] == made(EVENT)["event_id"]
    assert made(EVENT)["event_id"] != made(EVENT.replace("s-1", "s-2"))["event_id"]
    timeless = EVENT.rsplit(" ", 1)[0]
    assert made(timeless)["event_id"] != made(timeless)["event_id"]
    assert made(timeless)["ts"] == NOW
    assert made(EVENT.replace('"s-1"', '"s-1",event_id="mine"'))["event_id"] == "mine"


def test_the_shipped_mapping_takes_counters_and_timers() -> None:
    """Our own measurements, and counters of Telegraf's statsd input."""
    counter = made(f"funnel_counter,name=sms_sent,os=iOS,host=h value=3i {NOW}000000")
    assert (counter["kind"], counter["name"], counter["value"]) == ("COUNTER", "sms_sent", 3)
    assert (counter["dimensions"], counter["ts"]) == ({"os": "iOS"}, NOW)
    timer = made("funnel_timer,name=sms_delivery,os=iOS ms=850.4")
    assert (timer["kind"], timer["value"], timer["dimensions"]) == ("TIMER", 850, {"os": "iOS"})
    statsd = made("sms.sent,metric_type=counter,host=h,os=iOS value=5i")
    assert (statsd["name"], statsd["value"], statsd["dimensions"]) == ("sms_sent", 5, {"os": "iOS"})


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("cpu usage=1", ("measurement", "'cpu' is not mapped; FUNNELWATCH_LINES_PATH")),
        ("funnel_event,step=A,phase=IMPRESSION f=1", ("sign_up_session_id", "is missing")),
        (EVENT.replace("INPUT_NAME", "INPUT"), ("step", "has no step INPUT")),
        ("funnel_counter,name=a value=1.5", ("value", "1.5 is not whole")),
        ("funnel_counter,name=a value=t", ("value", "True is not a number; right would be a line like")),
        ("funnel_counter,name=a other=1", ("value", "is missing; right would be")),
        ("funnel_counter value=1", ("name", "is not a name")),
        ("funnel_counter,name=a value=-1", ("value", "-1 is not between 0 and")),
        ("funnel_timer,name=a ms=1e300", ("value", "is too large")),
        (f"funnel_counter,name=a value=1 {NOW + 10**9}000000", ("ts", "ahead of the clock")),
        ("funnel_counter,name=a value=1 5", ("ts", "days old")),
    ],
)
def test_an_error_names_its_field(line: str, error: tuple[str, str]) -> None:
    """And what would be right."""
    found = mapped(line)
    assert isinstance(found, Invalid)
    assert found.field == error[0]
    assert error[1] in found.message


OWN = """
others: ignore
lines:
  - measurement: page
    where: {app: shop}
    event:
      funnel: {value: checkout}
      sign_up_session_id: session
      step: page
      phase: {from: action, values: {view: IMPRESSION, submit: POST_VERIFICATION}}
      status: {from: ok, values: {"true": SUCCESS, "false": FAILURE}}
  - measurement: "sms_*"
    timer: {name: "{measurement}_{region}", value: took, unit: s, dimensions: [os]}
  - measurement: noise
    ignore: true
"""


def test_a_mapping_of_ones_own_names_sources_values_and_units(tmp_path: Path) -> None:
    """The first entry that fits counts; the rest is ignored if the file says so."""
    path = tmp_path / "lines.yml"
    path.write_text(OWN)
    event = made('page,app=shop,page=CART,action=submit session="s-9",ok=false', path)
    assert (event["funnel"], event["step"], event["phase"], event["status"]) == (
        "checkout",
        "CART",
        "POST_VERIFICATION",
        "FAILURE",
    )
    assert event["contexts"] == {}
    timer = made("sms_delivery,region=eu-1,os=iOS,x=y took=0.85", path)
    assert (timer["name"], timer["value"], timer["dimensions"]) == ("sms_delivery_eu_1", 850, {"os": "iOS"})
    assert mapped("page,app=other f=1", path) is None
    assert mapped("noise f=1", path) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lines: [", "1: YAML: "),
        ("- a", "1: file: is a list, not a map; right would be a map with others, lines"),
        ("other: reject\nlines: []", "1: other: is not a known field; right would be others"),
        ("lines: [{measurement: a}]", "1: lines[0]: must have one of event, counter, timer, 'ignore: true'"),
        ("lines: [{measurement: a, event: {}, ignore: true}]", "1: lines[0]: must have one of"),
        (
            "lines: [{measurement: a, event: {stepp: b}}]",
            "1: lines[0].event: stepp is not a field; right would be one of",
        ),
        (
            "lines: [{measurement: a, event: {step: {from: b, value: c}}}]",
            "1: lines[0].event.step: must have either from",
        ),
        ("lines: [{measurement: a, timer: {name: b, unit: m}}]", "1: lines[0].timer.unit: must be 'ns', 'us'"),
    ],
)
def test_a_bad_mapping_is_rejected(tmp_path: Path, text: str, said: str) -> None:
    """With the file and the place in it."""
    path = tmp_path / "lines.yml"
    path.write_text(text)
    with pytest.raises(LinesFileError) as rejected:
        load_line_mapping(path)
    assert f"{path}:{said}" in str(rejected.value)
