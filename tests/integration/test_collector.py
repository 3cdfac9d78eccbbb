"""The collector as a process, before a real Kafka."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import socket
import time
import uuid
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from funnelwatch.producers.collector.keys import hash_of
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.codec import Decoder
from tests.collector import KEY, Collector, Reply, collector, own_settings
from tests.integration.topic import events_of, read_events, read_messages
from tests.stack import Servers, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from funnelwatch.deploy.embedded.stack import Stack
    from funnelwatch.schemas.settings import Settings

SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.0 Mobile/15E148 Safari/604.1"
)
STEP = {"step": "INPUT_NAME", "phase": "IMPRESSION"}


@pytest.fixture(scope="module")
def own(stack: Servers) -> Settings:
    """The topics that the tests of this file share."""
    return own_settings(stack)


@pytest.fixture(scope="module")
def running(own: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector that the tests of this file share."""
    limits = {"collector_max_body_bytes": 20_000, "collector_max_events": 50, "collector_max_connections": 40}
    with collector(own, tmp_path_factory.mktemp("collector") / "log", **limits) as one:
        yield one
        assert one.stop() == 0


def session() -> str:
    """A session that no other test has."""
    return uuid.uuid4().hex


def test_an_event_is_on_the_topic_when_it_is_answered(running: Collector, own: Settings) -> None:
    """What the event does not say is filled in: id, time, and platform and browser of the User-Agent."""
    before, one = wall_clock_ms(), session()
    reply = running.send({**STEP, "sign_up_session_id": one}, User_Agent=SAFARI)
    assert reply.status == 200, reply.text
    answer = reply.json
    assert (answer["accepted"], answer["rejected"], answer["undelivered"]) == (1, 0, 0)
    (event,) = events_of(own, one)
    assert event["event_id"] == answer["events"][0]["event_id"]
    assert (event["os"], event["browser"], event["funnel"]) == ("iOS", "Safari", "sign_up")
    assert before <= event["ts"] <= wall_clock_ms()


def test_a_packed_batch_is_answered_one_by_one(running: Collector, own: Settings) -> None:
    """The good ones are taken, each other is told with its field."""
    one = session()
    good = {**STEP, "sign_up_session_id": one, "os": "iOS"}
    batch = [
        {**good, "event_id": f"{one}-0", "ts": wall_clock_ms(), "contexts": {"country": "DE"}},
        {**good, "phase": "SHOWN"},
        {**good, "step": "INPUT_NAMES"},
        {**good, "app_verison": "5"},
        {**good, "ts": 1},
        {**good, "phase": "POST_VERIFICATION"},
        "no event",
        {**good, "event_id": f"{one}-7", "ts": "2026-01-01T00:00:00Z"},
    ]
    reply = running.send(batch, packed=True)
    assert reply.status == 400
    answer = reply.json
    assert (answer["accepted"], answer["rejected"], answer["undelivered"]) == (2, 6, 0)
    assert [event["index"] for event in answer["events"]] == list(range(8))
    wrong = {event["index"]: event["field"] for event in answer["events"] if event["outcome"] == "rejected"}
    assert wrong == {1: "phase", 2: "step", 3: "app_verison", 4: "ts", 5: "status", 6: ""}
    assert "IMPRESSION, POST_VERIFICATION" in answer["events"][1]["message"]
    assert "VERIFY_SMS_CODE" in answer["events"][2]["message"]
    assert 'right would be {"contexts": {"app_verison": "…"}} for a further dimension' in answer["events"][3]["message"]
    taken = {event["event_id"]: event["contexts"] for event in events_of(own, one, 2)}
    assert taken == {f"{one}-0": {"country": "DE"}, f"{one}-7": {}}


def test_a_clock_that_is_wrong_is_put_right_by_sent_at(running: Collector, own: Settings) -> None:
    """A phone whose clock is an hour behind tells the truth about the time between its events."""
    one, wrong = session(), wall_clock_ms() - 3_600_000
    event = {**STEP, "sign_up_session_id": one, "ts": wrong - 5_000}
    assert running.send({"events": [event], "sent_at": wrong}).status == 200
    (taken,) = events_of(own, one)
    assert abs(taken["ts"] - (wall_clock_ms() - 5_000)) < 60_000


def test_counters_and_timers_come_beside_events(running: Collector, own: Settings) -> None:
    """They have a kind, and a topic of their own."""
    one = session()
    counter = {"kind": "COUNTER", "name": f"c{one}", "dimensions": {"os": "iOS"}}
    timer = {"kind": "TIMER", "name": f"t{one}", "value": 850, "ts": wall_clock_ms() - 1000}
    reply = running.send([counter, timer, {**timer, "name": "no name"}, {**timer, "kind": "GAUGE"}])
    assert [event.get("field") for event in reply.json["events"]] == [None, None, "name", "kind"]
    decode = Decoder("Metric")
    samples = [decode(message.value()) for message in read_messages(own, own.metrics_topic, 2)]
    taken = {sample["name"]: (sample["value"], sample["dimensions"]) for sample in samples}
    assert taken == {f"c{one}": (1, {"os": "iOS"}), f"t{one}": (850, {})}


@pytest.mark.parametrize(
    ("headers", "path", "said"),
    [
        ({}, "/v1/events", "there is no API key; right would be the header 'Authorization: Bearer KEY'"),
        ({"Authorization": "Bearer fw_wrong"}, "/v1/events", "the API key is not known"),
        ({"Authorization": "Basic !"}, "/v1/events", "there is no API key"),
        ({}, "/v1/events?key=fw_wr%C3%B6ng", "the API key is not known"),
    ],
)
def test_nobody_sends_without_a_key(running: Collector, headers: dict[str, str], path: str, said: str) -> None:
    """The answer says how."""
    reply = running.ask("POST", path, b"{}", **headers)
    assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert said in reply.json["detail"]
    assert reply.headers["Content-Type"] == "application/problem+json"


def test_a_beacon_has_its_key_in_the_address(running: Collector, own: Settings) -> None:
    """And is text: a browser does not ask first then."""
    one = session()
    body = json.dumps({**STEP, "sign_up_session_id": one}).encode()
    reply = running.ask("POST", f"/v1/events?key={quote(KEY)}", body, Content_Type="text/plain;charset=UTF-8")
    assert reply.status == 200
    assert len(events_of(own, one)) == 1


def test_pages_may_ask_from_anywhere(running: Collector) -> None:
    """The preflight of a page is answered with its own origin, as beacons come with credentials."""
    asked = {"Origin": "https://app.example", "Access_Control_Request_Method": "POST"}
    reply = running.ask("OPTIONS", "/v1/events", None, Access_Control_Request_Headers="content-type", **asked)
    assert reply.status == 200
    assert reply.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert reply.headers["Access-Control-Allow-Credentials"] == "true"
    rejected = running.ask("POST", "/v1/events", b"{}", Origin="https://app.example")
    assert rejected.status == 401
    assert rejected.headers["Access-Control-Allow-Origin"], "a page may read why it was rejected"


def test_it_tells_about_itself(running: Collector) -> None:
    """Health, figures, and its own description."""
    assert running.ask("GET", "/healthz").status == 200
    assert running.ask("GET", "/readyz").status == 200
    running.send([{**STEP, "sign_up_session_id": session()}, {}])
    figures = running.ask("GET", "/metrics").text
    assert 'funnelwatch_collector_events_total{outcome="accepted",way="events"}' in figures
    assert 'funnelwatch_collector_requests_total{status="400"}' in figures
    description = running.ask("GET", "/openapi.json").json
    assert set(description["paths"]["/v1/events"]["post"]["responses"]) >= {"200", "400", "401", "413", "429", "503"}
    assert "requestBody" in description["paths"]["/v1/events"]["post"]


def test_who_sends_too_much_is_told_when_to_come_again(stack: Servers, tmp_path: Path) -> None:
    """Per key and per address, and each other key goes on."""
    settings = own_settings(stack)
    keys = f"one:{hash_of('one')},two:{hash_of('two')}"
    batch = [{**STEP, "sign_up_session_id": "s"}] * 45
    limits = {"collector_keys": keys, "collector_key_rate": 1, "collector_address_rate": 1}
    with collector(settings, tmp_path / "log", collector_trusted_proxies="127.0.0.1", **limits) as one:
        first = one.send(batch, Authorization="Bearer one")
        assert first.status == 200
        second = one.send(batch, Authorization="Bearer one")
        assert second.status == 429
        assert "the API key one" in second.json["detail"]
        assert int(second.headers["Retry-After"]) >= 1
        assert one.send(batch, Authorization="Bearer two").status == 200
        many = [one.ask("POST", "/v1/events", b"{}") for _ in range(20)]
        assert {reply.status for reply in many} == {401, 429}
        assert "too many requests from 127.0.0.1" in many[-1].json["detail"]
        assert int(many[-1].headers["Retry-After"]) >= 1
        behind = one.ask("POST", "/v1/events", b"{}", X_Forwarded_For="192.0.2.7")
        assert behind.status == 401, "a trusted proxy's other client has a limit of its own"


def test_what_was_acknowledged_is_there_after_an_outage_of_kafka(
    stack: Servers, own_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """While Kafka hangs the answer is 503 in bounded time; sent again with the same ids, nothing is lost."""
    environ = {"FUNNELWATCH_TIMESCALE_URL": stack.timescale_url, "FUNNELWATCH_REDIS_URL": stack.redis_url}
    kafka = own_stack("tansu", environ).up(lambda line: None).services["kafka"]
    assert kafka.pid
    settings = own_settings(stack).model_copy(
        update={"kafka_bootstrap_servers": kafka.url, "kafka_config": kafka.config}
    )
    with collector(settings, tmp_path / "log", collector_delivery_timeout_s=5) as one:
        wait_until(lambda: one.ask("GET", "/readyz").status == 200, "the topic is there")
        acknowledged, pending = [], [f"e-{number}" for number in range(30)]

        def send(number: int) -> Reply:
            return one.send([{**STEP, "sign_up_session_id": "s", "event_id": name} for name in pending[number::3]])

        assert one.send({**STEP, "sign_up_session_id": "s", "event_id": "before"}).status == 200
        os.kill(kafka.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(3) as pool:
                replies = list(pool.map(send, range(3)))
            assert time.monotonic() - began < 45
            assert [reply.status for reply in replies] == [503] * 3, replies
            assert {reply.headers["Retry-After"] for reply in replies} == {"5"}
            assert {event["outcome"] for event in replies[0].json["events"]} == {"undelivered"}
            assert one.ask("GET", "/readyz").status == 503
            assert one.ask("GET", "/healthz").status == 200
        finally:
            os.kill(kafka.pid, signal.SIGCONT)
        wait_until(lambda: all(send(number).status == 200 for number in range(3)), "Kafka takes them again", 120)
        acknowledged = {"before", *pending}
        assert {event["event_id"] for event in read_events(settings, len(acknowledged))} == acknowledged


def test_no_kafka_from_the_start_is_told_and_bounded_in_time_and_number(own: Settings, tmp_path: Path) -> None:
    """Beyond what may wait, an event is not even kept; what waits is told undelivered after its time."""
    away = own.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:9"})
    with collector(away, tmp_path / "log", collector_delivery_timeout_s=1, collector_max_waiting=5) as one:
        reply = one.send([{**STEP, "sign_up_session_id": "s", "event_id": f"e-{number}"} for number in range(8)])
        assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
        outcomes = [event["outcome"] for event in reply.json["events"]]
        assert outcomes == ["undelivered"] * 8
        assert [event["message"] for event in reply.json["events"]][5:] == ["5 events wait for Kafka already"] * 3
        lines = one.ask("POST", f"/api/v2/write?key={KEY}", b"funnel_counter,name=a value=1")
        assert (lines.status, lines.json["code"], lines.headers["Retry-After"]) == (503, "unavailable", "5")
        assert one.ask("GET", "/readyz").status == 503
        assert one.stop() == 0


def test_it_answers_what_is_in_flight_before_it_ends(own: Settings, tmp_path: Path) -> None:
    """Requests whose body is still coming when the signal comes are delivered and answered; new ones find nobody."""
    sessions = [session() for _ in range(5)]
    with collector(own, tmp_path / "log") as one:
        waiting = []
        for name in sessions:
            body = json.dumps({**STEP, "sign_up_session_id": name}).encode()
            connection = socket.create_connection((one.host, one.port), timeout=90)
            head = f"POST /v1/events?key={KEY} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[:10])
            waiting.append((connection, body[10:]))
        wait_until(lambda: "funnelwatch_collector_in_flight 6.0" in one.ask("GET", "/metrics").text, "all are there")
        one.process.send_signal(signal.SIGTERM)
        wait_until(lambda: rejects(one), "new connections are rejected")
        for connection, rest in waiting:
            connection.sendall(rest)
            assert b" 200 OK" in connection.recv(65_536)
            connection.close()
        assert one.process.wait(60) == 0
    arrived = {event["sign_up_session_id"] for event in read_events(own, 5)}
    assert arrived >= set(sessions)


def rejects(one: Collector) -> bool:
    """Whether nobody listens."""
    try:
        socket.create_connection((one.host, one.port), timeout=1).close()
    except OSError:
        return True
    return False
