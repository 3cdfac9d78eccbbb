"""Line protocol into a real Kafka: by InfluxDB's own client and Telegraf, unchanged, answered as InfluxDB does."""

from __future__ import annotations

import base64
import contextlib
import gzip
import shutil
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from influxdb_client import InfluxDBClient, Point, WritePrecision
from influxdb_client.client.exceptions import InfluxDBError
from influxdb_client.client.write_api import SYNCHRONOUS, WriteOptions
from influxdb_client.rest import ApiException

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.codec import Decoder
from tests.collector import KEY, Collector, collector, own_settings
from tests.integration.topic import events_of, read_messages
from tests.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings
    from tests.stack import Servers

TELEGRAF = """
[agent]
  interval = "1s"
  flush_interval = "1s"
  omit_hostname = true
[[inputs.file]]
  files = ["{lines}"]
  data_format = "influx"
"""
OUTPUTS = {
    "influxdb_v2": """
[[outputs.influxdb_v2]]
  urls = ["{url}"]
  token = "{key}"
  organization = "any"
  bucket = "any"
""",
    "influxdb": """
[[outputs.influxdb]]
  urls = ["{url}"]
  database = "any"
  skip_database_creation = true
  username = "any"
  password = "{key}"
""",
}


@pytest.fixture(scope="module")
def own(stack: Servers) -> Settings:
    """The topics that the tests of this file share."""
    return own_settings(stack)


@pytest.fixture(scope="module")
def running(own: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector that the tests of this file share."""
    with collector(own, tmp_path_factory.mktemp("collector") / "log") as one:
        yield one


def event(session: str, **tags: str) -> str:
    """A line without a time."""
    more = "".join(f",{key}={value}" for key, value in tags.items())
    return f'funnel_event,step=INPUT_NAME,phase=IMPRESSION,os=iOS{more} sign_up_session_id="{session}"'


def samples(settings: Settings, name: str) -> list[dict[str, Any]]:
    """The samples of a counter or timer on the topic."""
    decode = Decoder("Metric")
    found = [decode(message.value()) for message in read_messages(settings, settings.metrics_topic, 1)]
    return [sample for sample in found if sample["name"] == name]


def test_the_client_of_influxdb_writes_events_counters_and_timers(running: Collector, own: Settings) -> None:
    """Unchanged, gzip on, one by one and in batches."""
    session, at = uuid.uuid4().hex, wall_clock_ms()
    shown = Point("funnel_event").tag("step", "INPUT_NAME").tag("phase", "IMPRESSION").tag("os", "iOS")
    shown = shown.field("sign_up_session_id", session).time(at, WritePrecision.MS)
    counter = Point("funnel_counter").tag("name", f"c{session}").tag("os", "i OS,=").field("value", 3)
    timer = Point("funnel_timer").tag("name", f"t{session}").field("ms", 850.0)
    with InfluxDBClient(running.url, KEY, org="any", enable_gzip=True) as client:
        assert client.ping()
        with client.write_api(SYNCHRONOUS) as write:
            write.write("any", record=[shown, counter, timer])
        failed: list[Any] = []
        with client.write_api(WriteOptions(batch_size=50), error_callback=lambda *told: failed.append(told)) as write:
            for number in range(120):
                write.write("any", record=event(session, app_version=f"1.{number}"))
    assert not failed
    events = events_of(own, session, 121)
    assert len(events) == 121
    (first,) = [one for one in events if one["app_version"] == ""]
    assert (first["ts"], first["os"]) == (at, "iOS")
    (counted,) = samples(own, f"c{session}")
    assert (counted["kind"], counted["value"], counted["dimensions"]) == ("COUNTER", 3, {"os": "i OS,="})
    (timed,) = samples(own, f"t{session}")
    assert (timed["kind"], timed["value"]) == ("TIMER", 850)


def test_the_client_of_influxdb_understands_what_is_wrong(running: Collector) -> None:
    """A wrong token, and a line that cannot be, are its own exceptions with our words."""
    with InfluxDBClient(running.url, "fw_wrong", org="any") as client, client.write_api(SYNCHRONOUS) as write:
        with pytest.raises((InfluxDBError, ApiException)) as rejected:
            write.write("any", record=event("s"))
        assert rejected.value.response.status == 401
    with InfluxDBClient(running.url, KEY, org="any") as client, client.write_api(SYNCHRONOUS) as write:
        with pytest.raises((InfluxDBError, ApiException)) as rejected:
            write.write("any", record="cpu usage=1")
        assert rejected.value.response.status == 400
        assert "'cpu' is not mapped" in str(rejected.value)


def test_a_partial_write_takes_the_good_lines_and_names_the_others(running: Collector, own: Settings) -> None:
    """As InfluxDB answers: 400, the code, the lines, and how many are dropped."""
    session = uuid.uuid4().hex
    body = f"{event(session)}\n\nno line\ncpu usage=1\n{event(session)} 5\n{event(session, step2='x')}\n".encode()
    reply = running.ask("POST", "/api/v2/write?org=o&bucket=b", body, Authorization=f"Token {KEY}")
    assert reply.status == 400
    answer = reply.json
    assert answer["code"] == "invalid"
    assert answer["message"].startswith("partial write: line 3: unable to parse 'no line': ")
    assert "line 4: measurement: 'cpu' is not mapped" in answer["message"]
    assert "line 5: ts: ts is" in answer["message"]
    assert answer["message"].endswith("dropped=3")
    assert len(events_of(own, session, 2)) == 2


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"/write?db=x&precision=ms&u=any&p={KEY}", {}),
        ("/write?db=x&precision=ms", {"Authorization": "Basic " + base64.b64encode(f"any:{KEY}".encode()).decode()}),
        ("/write?db=x&precision=ms", {"Authorization": f"Token any:{KEY}"}),
        ("/api/v2/write?bucket=x&precision=ms", {"Authorization": f"Token {KEY}"}),
        ("/api/v2/write?bucket=x&precision=ms", {"Authorization": f"Bearer {KEY}", "Content_Encoding": "gzip"}),
    ],
)
def test_each_way_to_say_who_one_is_works(
    running: Collector, own: Settings, path: str, headers: dict[str, str]
) -> None:
    """InfluxDB 1 with user and password, 2 with a token; times in the precision that is named; 204 and no body."""
    session, at = uuid.uuid4().hex, wall_clock_ms()
    body = f"{event(session)} {at}".encode()
    reply = running.ask("POST", path, gzip.compress(body) if "Content_Encoding" in headers else body, **headers)
    assert (reply.status, reply.text) == (204, ""), reply.text
    assert [one["ts"] for one in events_of(own, session)] == [at]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/write?db=x", b"m f=1", 401, "there is no API key"),
        (f"/write?p={KEY}&precision=d", b"m f=1", 400, "precision: 'd' is not one of ns"),
        (f"/write?p={KEY}", b"\xff", 400, "the body is not UTF-8"),
        (f"/write?p={KEY}", b"m f=1", 400, "partial write: line 1: measurement: 'm' is not mapped"),
        (f"/write?p={KEY}", b"x" * 2_000_000, 413, "more than 1000000"),
    ],
)
def test_what_is_wrong_is_said_as_influxdb_1_does(
    running: Collector, path: str, body: bytes, status: int, said: str
) -> None:
    """In the body, and in a header of one line."""
    reply = running.ask("POST", path, body)
    assert reply.status == status
    assert said in reply.json["error"]
    assert said in reply.headers["X-Influxdb-Error"]


def test_a_body_without_points_is_written(running: Collector) -> None:
    """As by InfluxDB."""
    assert running.ask("POST", f"/api/v2/write?key={KEY}", b"# nothing\n\n").status == 204


def test_a_batch_that_is_sent_again_has_the_same_ids(running: Collector, own: Settings) -> None:
    """So that what a sender did not hear of is counted once."""
    session, at = uuid.uuid4().hex, wall_clock_ms()
    for _ in range(2):
        reply = running.ask("POST", f"/write?p={KEY}", f"{event(session)} {at}000000".encode())
        assert reply.status == 204
    events = events_of(own, session, 2)
    assert len(events) == 2
    assert len({one["event_id"] for one in events}) == 1


@contextlib.contextmanager
def telegraf(folder: Path, output: str, url: str, lines: str) -> Iterator[Path]:
    """The real program, which reads these lines every second; yields its log."""
    program = shutil.which("telegraf")
    if program is None:
        pytest.skip("NOT TESTED: Telegraf is not on PATH, so its outputs for InfluxDB did not write to the collector")
    (folder / "lines").write_text(lines)
    config = folder / "telegraf.conf"
    config.write_text((TELEGRAF + OUTPUTS[output]).format(lines=folder / "lines", url=url, key=KEY))
    with (folder / "telegraf.log").open("wb") as log:
        process = subprocess.Popen([program, "--config", config], stdout=log, stderr=log)
    try:
        yield folder / "telegraf.log"
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("output", OUTPUTS)
def test_telegraf_delivers(running: Collector, own: Settings, tmp_path: Path, output: str) -> None:
    """With its output for InfluxDB 2, and the one for 1."""
    session, name = uuid.uuid4().hex, f"c{uuid.uuid4().hex}"
    lines = f"{event(session)} {wall_clock_ms()}000000\nfunnel_counter,name={name},os=iOS value=2i\n"

    def delivered() -> bool:
        with contextlib.suppress(TimeoutError):
            return bool(events_of(own, session)) and bool(samples(own, name))
        return False

    with telegraf(tmp_path, output, running.url, lines) as log:
        wait_until(delivered, "what Telegraf has read is on the topics", 120)
    assert "E!" not in log.read_text()
    assert {sample["value"] for sample in samples(own, name)} == {2}
    assert len({one["event_id"] for one in events_of(own, session)}) == 1, "read every second, the same point each time"


def test_telegraf_keeps_what_is_not_acknowledged_and_sends_it_again(own: Settings, tmp_path: Path) -> None:
    """While Kafka is away the collector says 503, and Telegraf does as it is told."""
    session = uuid.uuid4().hex
    away = own.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9"})
    at = wall_clock_ms()
    with contextlib.ExitStack() as ending:
        with collector(away, tmp_path / "away", collector_delivery_timeout_s=1) as first:
            url, port = first.url, str(first.port)
            log = ending.enter_context(telegraf(tmp_path, "influxdb_v2", url, f"{event(session)} {at}000000\n"))
            wait_until(lambda: "503" in log.read_text(), "Telegraf was told to come again", 120)
        (tmp_path / "lines").write_text("")
        ending.enter_context(collector(own, tmp_path / "back", "--port", port))

        def delivered() -> bool:
            with contextlib.suppress(TimeoutError):
                return bool(events_of(own, session))
            return False

        wait_until(delivered, "what was not acknowledged came again", 90)
