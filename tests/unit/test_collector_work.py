"""Bounds of the collector's work: hostile requests cost no more than ordinary ones, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from funnelwatch.producers.collector.body import MOST_MEMBERS
from funnelwatch.producers.collector.events import collect
from funnelwatch.producers.collector.keys import hash_of
from funnelwatch.producers.collector.lines import BadLine, parse_lines, split_lines
from funnelwatch.producers.collector.service import LONGEST_MESSAGE
from funnelwatch.producers.collector.turns import SLICE
from funnelwatch.producers.http.problem import LONGEST_DETAIL, Problem
from tests.collector_in_process import Asked, app_of

if TYPE_CHECKING:
    from collections.abc import Callable

MEGABYTE = 1_000_000
GOOD = {"sign_up_session_id": "s-1", "step": "INPUT_NAME", "phase": "IMPRESSION"}
LINE = b'funnel_event,step=INPUT_NAME,phase=IMPRESSION,os=iOS sign_up_session_id="s-1"\n'
FACTOR = 5
"""A hostile request may cost so many times what an ordinary one of the same size costs: today 1.2 times at most."""


def repeated(piece: bytes) -> bytes:
    """A megabyte of it."""
    return piece * (MEGABYTE // len(piece))


def empty_blocks() -> bytes:
    """Gzip data of a megabyte that is many small blocks, and unpacks to a few bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    out = bytearray()
    while len(out) < MEGABYTE - 100:
        out += packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
        out += packer.compress(b"\n") + packer.flush(zlib.Z_PARTIAL_FLUSH)
    return bytes(out + packer.flush())


@pytest.fixture(scope="module")
def ordinary_s() -> float:
    """CPU time of an ordinary body of a megabyte: as many good events as are allowed, of 200 bytes each."""
    body = json.dumps([{**GOOD, "contexts": {"note": "x" * 90}}] * 5_000).encode()
    assert abs(len(body) - MEGABYTE) < MEGABYTE / 10
    app = app_of(collector_max_body_bytes=2 * MEGABYTE)
    asked = min((Asked(app, "/v1/events", body) for _ in range(3)), key=lambda one: one.cpu_s)
    assert asked.status == 200
    return asked.cpu_s


HOSTILE: dict[str, tuple[str, bytes | Callable[[], bytes], str, int]] = {
    "short lines": ("/api/v2/write", repeated(b"a\n"), "", 413),
    "short lines, packed": ("/api/v2/write", gzip.compress(b"a\n" * 490_000), "gzip", 413),
    "line breaks": ("/api/v2/write", repeated(b"\n"), "", 204),
    "line breaks of Windows": ("/api/v2/write", repeated(b"\r\n"), "", 204),
    "spaces": ("/api/v2/write", repeated(b" "), "", 204),
    "comments": ("/api/v2/write", repeated(b"#\n"), "", 204),
    "empty gzip members": ("/v1/events", gzip.compress(b"") * 49_990, "gzip", 413),
    "padded gzip members": ("/v1/events", (gzip.compress(b"") + b"\0" * 5) * 39_000, "gzip", 413),
    "empty gzip members of lines": ("/api/v2/write", gzip.compress(b"") * 49_990, "gzip", 413),
    "small gzip blocks": ("/v1/events", empty_blocks, "gzip", 400),
    "many tags": ("/api/v2/write", b"m" + b"".join(b",t%d=1" % n for n in range(90_000)) + b" f=1", "", 400),
    "tags below the limit of the key": (
        "/api/v2/write",
        (b"m" + b"".join(b",t%d=1" % n for n in range(7_000)) + b" f=1\n") * 15,
        "",
        400,
    ),
    "many fields": ("/api/v2/write", b"m f=1" + b"".join(b",f%d=1" % n for n in range(90_000)), "", 400),
    "backslashes": ("/api/v2/write", repeated(b"\\"), "", 400),
    "escaped spaces": ("/api/v2/write", repeated(b"\\ "), "", 400),
    "open quotes": ("/api/v2/write", repeated(b'm f="\\'), "", 400),
    "quotes over lines": ("/api/v2/write", repeated(b'm f="\n'), "", 413),
    "brackets": ("/v1/events", repeated(b"["), "", 400),
    "braces": ("/v1/events", repeated(b'{"a":'), "", 400),
    "empty events": ("/v1/events", b"[" + b"{}," * 330_000 + b"{}]", "", 413),
    "empty lists": ("/v1/events", b"[" + b"[]," * 330_000 + b"[]]", "", 413),
    "a huge integer": ("/v1/events", repeated(b"1"), "", 400),
    "large integers": ("/v1/events", b"[" + b",".join([b"1" * 4_000] * 240) + b"]", "", 400),
    "a long fraction": ("/v1/events", b"[0." + b"1" * 990_000 + b"]", "", 400),
    "events without fields": ("/v1/events", b"[" + b",".join([b"{}"] * 5_000) + b"]", "", 400),
    "unknown fields": ("/v1/events", json.dumps([{**GOOD, "x" * 100: 1}] * 4_000).encode(), "", 400),
    "a huge value": ("/v1/events", json.dumps({**GOOD, "step": {"a": "\0" * 150_000}}).encode(), "", 400),
    "many contexts": (
        "/v1/events",
        json.dumps({**GOOD, "contexts": {f"k{n}": "" for n in range(60_000)}}).encode(),
        "",
        200,
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_costs_no_more_than_an_ordinary_one(name: str, ordinary_s: float) -> None:
    """Within a generous factor of the CPU time of good events of the same size, and its answer is not large."""
    path, body, encoding, status = HOSTILE[name]
    asked = Asked(app_of(), path, body if isinstance(body, bytes) else body(), encoding)
    assert asked.status == status, asked.text
    assert asked.cpu_s < FACTOR * ordinary_s
    assert len(asked.text) < 5_000 * (2 * LONGEST_MESSAGE + 200)


@pytest.mark.parametrize("way", ["/v1/events", "/api/v2/write"])
def test_others_are_served_while_a_large_request_is_checked(way: str) -> None:
    """The event loop turns at least once for each slice of events, when they are checked and when they are encoded."""
    many = 2_000
    body = json.dumps([GOOD] * many).encode() if way == "/v1/events" else LINE * many
    app = app_of()
    asked = Asked(app, way, body)
    assert asked.status in (200, 204)
    assert len(app.state.delivery.taken) == many
    assert asked.turns >= 2 * many // SLICE


def test_others_are_served_while_a_body_is_unpacked() -> None:
    """Data that unpacks to nothing costs time in small slices only."""
    asked = Asked(app_of(), "/v1/events", empty_blocks(), "gzip")
    assert asked.turns >= 100


def test_large_requests_take_turns() -> None:
    """Ten of them at once delay others by one slice at a time, not by ten."""
    app = app_of()
    complete = app.state.checks.complete
    steps: list[int] = []

    def counted(*args: Any) -> Any:
        steps[-1] += 1
        return complete(*args)

    app.state.checks.complete = counted

    async def ask() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": json.dumps([GOOD] * 200).encode(), "more_body": False}

        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": [], "app": app}
        await collect(Request(scope, receive))

    async def watch() -> None:
        while True:
            steps.append(0)
            await asyncio.sleep(0)

    async def all_at_once() -> None:
        watching = asyncio.create_task(watch())
        await asyncio.gather(*(ask() for _ in range(10)))
        watching.cancel()

    asyncio.run(all_at_once())
    assert sum(steps) == 2_000
    assert max(steps) <= SLICE


def test_a_key_is_charged_before_its_body_is_parsed() -> None:
    """Bodies that cannot be parsed are charged by their size, so that they end like others: with 429."""
    app = app_of(collector_keys=f"one:{hash_of('one')}", collector_key_rate=100)
    junk = b"[" * MEGABYTE
    assert [Asked(app, "/v1/events", junk, key="one").status for _ in range(2)] == [400, 429]


def test_a_key_that_owes_is_rejected_before_its_body_is_read() -> None:
    """The body is not taken from the connection."""
    app = app_of(collector_keys=f"one:{hash_of('one')}", collector_key_rate=1)
    assert Asked(app, "/v1/events", json.dumps([GOOD] * 50).encode(), key="one").status == 200

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body is read")

    headers = [(b"authorization", b"Bearer one")]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers, "app": app}
    with pytest.raises(Problem) as rejected:
        asyncio.run(collect(Request(scope, receive)))
    assert rejected.value.status == 429


def test_events_are_charged_once() -> None:
    """By their number, where they are more than their bytes are charged for."""
    app = app_of(collector_keys=f"one:{hash_of('one')}", collector_key_rate=10)
    statuses = [Asked(app, "/v1/events", json.dumps([GOOD] * 10).encode(), key="one").status for _ in range(6)]
    assert statuses[:3] == [200] * 3
    assert 429 in statuses


def test_a_body_of_several_gzip_members_is_taken() -> None:
    """Members may be followed by zeros, and lie anywhere in a slice."""
    events = json.dumps([{**GOOD, "contexts": {"n": "x" * 5_000}}] * 20).encode()
    step = len(events) // (MOST_MEMBERS - 1) + 1
    parts = [gzip.compress(events[at : at + step]) + b"\0" * (at % 3) for at in range(0, len(events), step)]
    assert len(parts) > 50
    app = app_of()
    assert Asked(app, "/v1/events", b"".join(parts), "gzip").status == 200
    assert len(app.state.delivery.taken) == 20


def test_a_problem_quotes_a_part_only() -> None:
    """Of what a sender sent."""
    assert len(Problem(400, "x" * MEGABYTE).detail) <= LONGEST_DETAIL + 1


def test_lines_are_split_before_they_are_parsed() -> None:
    """With the numbers that an editor shows; blank lines and comments are no lines."""
    text = '\n  # c\r\nm f="a\nb"\r\n\n#\n  x\n'
    assert list(split_lines(text)) == [(3, 'm f="a\nb"'), (7, "x")]


@pytest.mark.parametrize(("tags", "taken"), [(250, True), (251, False)])
def test_a_line_has_a_bounded_number_of_tags(tags: int, taken: bool) -> None:
    """A comma that is escaped separates none."""
    line = "m" + "".join(rf",t{n}=\,1" for n in range(tags)) + " f=1"
    ((_, point),) = parse_lines(line, 1)
    assert isinstance(point, BadLine) is not taken
