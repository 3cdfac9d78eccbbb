"""A collector that is not asked nicely: it says what is wrong, and goes on answering others."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.collector import KEY, Collector, collector, own_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack import Servers

MOST_BYTES = 20_000
MOST_CONNECTIONS = 30
HEAD = f"POST /v1/events?key={KEY} HTTP/1.1\r\nHost: x\r\n"
GOOD = {"sign_up_session_id": "s-1", "step": "INPUT_NAME", "phase": "IMPRESSION"}


@pytest.fixture(scope="module")
def short(stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A collector of little retry_policy, that the tests of this file share."""
    given_settings = own_settings(
        stack,
        collector_max_body_bytes=MOST_BYTES,
        collector_max_events=50,
        collector_max_connections=MOST_CONNECTIONS,
        collector_header_timeout_s=2,
        collector_body_timeout_s=2,
    )
    with collector(given_settings, tmp_path_factory.mktemp("collector") / "log") as one:
        yield one


@pytest.fixture(autouse=True)
def alive(short: Collector) -> Iterator[None]:
    """After each test the same process still takes events, and has logged no error of its own."""
    yield
    assert short.send(GOOD).status == 200
    assert short.process.poll() is None
    assert "Traceback" not in short.log.read_text()


def connect(one: Collector) -> socket.socket:
    """A plain connection."""
    return socket.create_connection((one.host, one.port), timeout=90)


def until_closed(connection: socket.socket) -> str:
    """All that comes until the server hangs up."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    finally:
        connection.close()
    return b"".join(parts).decode(errors="replace")


@pytest.mark.parametrize("sent", [b"", b"POST", HEAD.encode(), HEAD.encode() + b"X-A: b\r\nX"])
def test_a_head_that_never_ends_is_ended(short: Collector, sent: bytes) -> None:
    """With 408, after the time a head may take."""
    connection = connect(short)
    connection.sendall(sent)
    answer = until_closed(connection)
    assert answer.startswith("HTTP/1.1 408 Request Timeout")
    assert "was not complete after 2 s" in answer


def test_a_head_that_comes_byte_by_byte_gets_no_more_time(short: Collector) -> None:
    """Each byte begins no new wait (slow loris)."""
    connection = connect(short)
    connection.settimeout(0.1)
    answer = b""
    for byte in (HEAD + "X-Slow: " + "a" * 300).encode():
        try:
            connection.sendall(bytes([byte]))
            answer += connection.recv(65_536)
        except TimeoutError:
            continue
        except OSError:
            break
        if answer:
            break
    connection.close()
    assert b"408" in answer


def test_a_second_head_on_a_connection_has_no_more_time_than_the_first(short: Collector) -> None:
    """A request was answered well before."""
    connection = connect(short)
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in connection.recv(65_536)
    connection.sendall(b"POST /v1/eve")
    assert "408 Request Timeout" in until_closed(connection)


def test_a_body_that_never_ends_is_ended(short: Collector) -> None:
    """With 408, after the time a body may take, and the connection with it."""
    connection = connect(short)
    connection.sendall(f"{HEAD}Content-Length: 100\r\n\r\n{{".encode())
    answer = until_closed(connection)
    assert answer.startswith("HTTP/1.1 408")
    assert "the body was not complete after 2 s" in answer


def test_who_hangs_up_in_the_middle_harms_nobody(short: Collector) -> None:
    """In the head, or in the body."""
    for sent in (HEAD, f"{HEAD}Content-Length: 100\r\n\r\n{{", f"{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\n"):
        connection = connect(short)
        connection.sendall(sent.encode())
        connection.close()


@pytest.mark.parametrize("packed", [False, True])
def test_a_body_that_is_too_large_is_rejected(short: Collector, packed: bool) -> None:
    """The sender can read the answer, and nothing is parsed."""
    reply = short.send([GOOD] * 40 + ["x" * 2 * MOST_BYTES], packed=packed)
    assert reply.status == 413
    assert f"more than {MOST_BYTES}" in reply.json["detail"]


def test_a_body_without_a_length_is_cut_at_the_limit(short: Collector) -> None:
    """It goes on for ever in chunks; the server does not."""
    connection = connect(short)
    connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
    chunk = b"2000\r\n" + b"x" * 0x2000 + b"\r\n"
    sent = 0
    try:
        while sent < 5_000 * MOST_BYTES:
            connection.sendall(chunk)
            sent += 0x2000
    except OSError:
        pass
    connection.close()
    assert sent < 5_000 * MOST_BYTES


def test_a_body_that_says_it_is_huge_is_rejected_unread(short: Collector) -> None:
    """Before a byte of it has come."""
    connection = connect(short)
    connection.sendall(f"{HEAD}Content-Length: 99999999999\r\n\r\n".encode())
    answer = until_closed(connection)
    assert answer.startswith("HTTP/1.1 413")
    assert "99999999999 bytes" in answer


def test_a_body_in_tiny_chunks_is_cut(short: Collector) -> None:
    """Each chunk costs as much as kilobytes of data; chunks of a proper size are taken."""
    head = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
    event = json.dumps(GOOD).encode()
    tiny, proper = connect(short), connect(short)
    tiny.sendall(head + b"1\r\n \r\n" * 3_000)
    assert until_closed(tiny).startswith("HTTP/1.1 400")
    chunk = f"{len(event):x}\r\n".encode() + event + b"\r\n"
    proper.sendall(head + b"1\r\n \r\n" * 900 + chunk + b"0\r\n\r\n")
    assert proper.recv(65_536).startswith(b"HTTP/1.1 200")
    proper.close()


@pytest.mark.parametrize(
    ("path", "body", "encoding", "status"),
    [
        ("/v1/events", gzip.compress(b"") * 900, "gzip", 413),
        ("/api/v2/write", b"a\n" * 9_000, "", 413),
        ("/api/v2/write", b"\n" * 19_000, "", 204),
        ("/v1/events", b"1" * 19_000, "", 400),
    ],
)
def test_a_body_of_much_work_is_answered(short: Collector, path: str, body: bytes, encoding: str, status: int) -> None:
    """With a problem, by its limits."""
    reply = short.ask("POST", f"{path}?key={KEY}", body, **({"Content_Encoding": encoding} if encoding else {}))
    assert reply.status == status, reply.text


def test_who_comes_while_all_connections_wait_is_answered(short: Collector) -> None:
    """In the place of the one that has been waiting longest for a request."""
    half_open = [connect(short) for _ in range(3 * MOST_CONNECTIONS)]
    for connection in half_open:
        with contextlib.suppress(OSError):
            connection.sendall(b"GET /hea")
    assert short.ask("GET", "/healthz").status == 200
    for connection in half_open:
        connection.close()


def test_a_bomb_is_not_unpacked(short: Collector) -> None:
    """Ten kilobytes that unpack to ten megabytes."""
    bomb = gzip.compress(b"0" * 10_000_000)
    assert len(bomb) < MOST_BYTES
    reply = short.ask("POST", f"/v1/events?key={KEY}", bomb, Content_Encoding="gzip")
    assert reply.status == 413
    assert "unpacked" in reply.json["detail"]


@pytest.mark.parametrize(
    ("body", "encoding", "status", "said"),
    [
        (b"", "", 400, "the body is no JSON"),
        (b"{", "", 400, "the body is no JSON"),
        (b"\xff\xfe", "", 400, "the body is no JSON"),
        (b"[" * 10_000, "", 400, "the body is no JSON"),
        (b"[]", "", 400, "the body has no events; right would be an event"),
        (b"null", "", 400, "the body has no events"),
        (b'{"events": 5}', "", 400, "the body has no events"),
        (b'{"events": [], "x": 1}', "", 400, "x: is not known beside events"),
        (b'{"events": [{}], "sent_at": "today"}', "", 400, "sent_at: 'today' is not a time"),
        (b'{"events": [{}], "\\ud800": 1}', "", 400, "is not known beside events"),
        (b"[" + b"{}," * 60 + b"{}]", "", 413, "61 events at once are more than 50"),
        (b"no gzip", "gzip", 400, "the body is not gzip"),
        (gzip.compress(b"[{}]", mtime=0)[:-9], "gzip", 400, "the body ends in the middle of its gzip data"),
        (b"[{}]", "br", 415, "Content-Encoding: 'br' is not known; right would be gzip or none"),
    ],
)
def test_garbage_is_named(short: Collector, body: bytes, encoding: str, status: int, said: str) -> None:
    """As problem details."""
    headers = {"Content_Encoding": encoding} if encoding else {}
    reply = short.ask("POST", f"/v1/events?key={KEY}", body, **headers)
    assert reply.status == status
    assert said in reply.json["detail"]


@pytest.mark.parametrize(
    "event",
    [
        {"step": 5},
        {"step": "INPUT_NAME\u0000"},
        {"step": "\ud800"},
        {"ts": 10**30},
        {"ts": 1.5},
        {"ts": True},
        {"ts": "9999-99-99"},
        {"contexts": {"a": {"b": 1}}},
        {"contexts": [1]},
        {"duration_ms": -1},
        {"sign_up_session_id": "x" * 501},
        {"event_id": 7},
        {"os": ["iOS"]},
        {"browser": 1},
        {"\ud800": 1},
        {"contexts": {"\ud800": "x"}},
    ],
)
def test_an_event_that_cannot_be_is_rejected_by_its_field(short: Collector, event: dict[str, object]) -> None:
    """And no other."""
    reply = short.send({**GOOD, **event})
    assert reply.status == 400
    assert reply.json["events"][0]["field"].startswith(next(iter(event)))


TEXTS = st.text(st.characters(codec=None), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(TEXTS, part, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["event_id", "step", "phase", "status", "os", "browser", "ts", "duration_ms", "contexts", "kind"]
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(FIELDS | TEXTS, JSON, max_size=3))
def test_whatever_json_an_event_has_it_is_answered(short: Collector, change: dict[str, object]) -> None:
    """Taken or rejected with a reason, and never an error of the collector."""
    reply = short.send({**GOOD, **change})
    assert reply.status in (200, 400), reply.text


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(max_size=60), st.sampled_from(["/write", "/api/v2/write"]))
def test_whatever_text_is_written_it_is_answered(short: Collector, text: str, path: str) -> None:
    """As InfluxDB would."""
    reply = short.ask("POST", f"{path}?key={KEY}", text.encode(errors="replace"))
    assert reply.status in (204, 400), reply.text


def test_a_line_of_control_characters_is_told_in_a_header_that_may_be(short: Collector) -> None:
    """InfluxDB 1 says what is wrong in a header too."""
    reply = short.ask("POST", f"/write?key={KEY}", b"a\rb\x01\x1b\xc3\xbc")
    assert reply.status == 400
    assert "unable to parse 'a?b???'" in reply.headers["X-Influxdb-Error"]


def test_noise_on_the_wire_is_answered_or_cut(short: Collector) -> None:
    """Random bytes, other protocols, and a request line of a megabyte."""
    noise = random.Random(7)
    samples = [noise.randbytes(300) for _ in range(3)]
    samples += [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET /" + b"a" * 1_000_000]
    samples += [b"POST /v1/events HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"\r\n" * 100, os.urandom(5)]
    for sample in samples:
        connection = connect(short)
        try:
            connection.sendall(sample)
        except OSError:
            connection.close()
            continue
        answer = until_closed(connection)
        assert not answer or answer.startswith("HTTP/1.1 4"), answer


def test_who_takes_all_connections_keeps_others_out_only_for_a_moment(short: Collector) -> None:
    """Beyond the most there may be, a connection is told to come again; when the slow ones are cut there is room."""
    connections = [connect(short) for _ in range(2 * MOST_CONNECTIONS)]
    answers = [until_closed(connection) for connection in connections]
    rejected = [answer for answer in answers if answer.startswith("HTTP/1.1 503")]
    cut = [answer for answer in answers if answer.startswith("HTTP/1.1 408")]
    assert len(rejected) + len(cut) == 2 * MOST_CONNECTIONS
    # One that hung up a moment ago may still have had its place.
    assert 0 < len(cut) <= MOST_CONNECTIONS
    assert all("Retry-After: 5" in answer for answer in rejected)
