"""One look for all who watch, and what becomes of those who do not keep up: no server, no browser."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import psycopg
import pytest

from funnelwatch.schemas.settings import Settings
from funnelwatch.web.board.hub import MOST_CLIENTS, MOST_QUERIES, FullError, Hub
from funnelwatch.web.board.query import BoardQuery
from funnelwatch.web.board.record import RecordReader
from funnelwatch.web.board.source import Source
from funnelwatch.web.board.stream import EventStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT_S = 20.0


class Away:
    """A database that is asked and never there."""

    def __init__(self) -> None:
        self.asked = 0

    @contextmanager
    def database(self) -> Iterator[Any]:
        """Asked once more."""
        self.asked += 1
        raise psycopg.OperationalError("the database is away\nand this is a second line")
        yield


@pytest.fixture
def away() -> Away:
    """The database."""
    return Away()


@pytest.fixture
def hub(away: Away) -> Iterator[Hub]:
    """A hub on servers that are all away."""
    nowhere = {"redis_url": "redis://127.0.0.1:1/0", "kafka_bootstrap_servers": "127.0.0.1:1"}
    made = Hub(Settings(**nowhere), away.database)
    yield made
    made.stop()


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition that threads bring about."""
    limit = threading.Event()
    for _ in range(int(LIMIT_S / 0.02)):
        if condition():
            return
        limit.wait(0.02)
    raise AssertionError("it did not happen")


def test_a_source_keeps_its_answer_through_an_outage_and_tells_the_error() -> None:
    """What was known stays, with the error in one line; when the server is back the error goes."""
    answers: list[Any] = [1, OSError("gone\nfar away"), 2]
    seen: list[tuple[int, str | None]] = []

    def look() -> int:
        seen.append((source.answer, source.error))
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    source: Source[int] = Source("test", look, 0, every_s=0.01, needed=lambda: bool(answers))
    source.start()
    wait_until(lambda: source.version == 3)
    source.stop()
    assert seen == [(0, None), (1, None), (1, "gone")]
    assert (source.answer, source.error) == (2, None)


def test_nothing_is_looked_at_while_nobody_watches(hub: Hub, away: Away) -> None:
    """A board that nobody has open asks the servers nothing, before the first page and after the last."""
    assert away.asked == 0
    with hub.watch(BoardQuery()):
        wait_until(lambda: away.asked >= 1)
    wait_until(lambda: not hub.record.reading)
    asked = away.asked
    hub.record.start()
    wait_until(lambda: not hub.record.reading)
    assert away.asked == asked


def test_many_pages_are_one_look(hub: Hub, away: Away) -> None:
    """A hundred pages of the same view ask the database as often as one."""
    with ExitStack() as pages:
        for _ in range(100):
            pages.enter_context(hub.watch(BoardQuery()))
        wait_until(lambda: hub.record.version >= 1)
        for _ in range(100):
            assert "the database is away" in hub.messages(BoardQuery())["health"]
        assert away.asked <= hub.record.version + 1


def test_there_is_room_for_many_pages_but_not_for_any_number(hub: Hub) -> None:
    """More pages, or more different views, than there may be are rejected, and told why."""
    with ExitStack() as pages:
        for number in range(MOST_QUERIES):
            pages.enter_context(hub.watch(BoardQuery(filters=(("os", str(number)),))))
        hub.admit(BoardQuery(filters=(("os", "0"),)))
        with pytest.raises(FullError, match="different views"):
            hub.admit(BoardQuery(filters=(("os", "another"),)))
        for _ in range(MOST_CLIENTS - MOST_QUERIES):
            pages.enter_context(hub.watch(BoardQuery(filters=(("os", "0"),))))
        with pytest.raises(FullError, match="pages are open"):
            hub.admit(BoardQuery(filters=(("os", "0"),)))
    hub.admit(BoardQuery(filters=(("os", "another"),)))


def run(stream: EventStream, send: Callable[[Any], Any], leave: anyio.Event | None = None) -> None:
    """Let a stream run to its end, as a server would."""

    async def receive() -> dict[str, str]:
        await (leave or anyio.Event()).wait()
        return {"type": "http.disconnect"}

    async def main() -> None:
        with anyio.fail_after(LIMIT_S):
            await stream({"type": "http"}, receive, send)

    anyio.run(main)


def test_a_stream_begins_with_how_to_come_back_and_ends_with_the_server(hub: Hub) -> None:
    """retry, then the clock and the parts, each with an id; a last empty body when the server is told to end."""
    stopping = threading.Event()
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if b"event: health" in message.get("body", b""):
            stopping.set()

    run(EventStream(hub, BoardQuery(), stopping), send)
    assert dict(sent[0]["headers"])[b"content-type"].startswith(b"text/event-stream")
    bodies = [message["body"] for message in sent[1:]]
    assert bodies[0] == b"retry: 1000\n\n"
    assert bodies[1].startswith(b"event: beat\nid: ")
    assert bodies[-1] == b""
    assert sent[-1]["more_body"] is False


def test_who_does_not_take_what_is_sent_is_dropped(hub: Hub) -> None:
    """A browser that sleeps on its connection holds neither memory nor a place."""

    async def send(message: dict[str, Any]) -> None:
        if message.get("body"):
            await anyio.sleep_forever()

    run(EventStream(hub, BoardQuery(), threading.Event(), slow_s=0.05), send)
    hub.admit(BoardQuery())
    assert not hub.watched


def test_who_leaves_is_forgotten(hub: Hub) -> None:
    """The stream ends when the browser has gone."""
    leave = anyio.Event()

    async def send(message: dict[str, Any]) -> None:
        if b"event: beat" in message.get("body", b""):
            leave.set()

    run(EventStream(hub, BoardQuery(), threading.Event()), send, leave)
    assert not hub.watched


class Slow:
    """A database that answers everything but time lines, which take too long."""

    def __init__(self) -> None:
        self.canceled = 0

    @contextmanager
    def lend(self) -> Iterator[Any]:
        """Itself."""
        yield self

    def query(self, name: str, parameters: Any = None) -> list[dict[str, Any]]:
        """A row where one is needed, or the end that the server makes of a statement."""
        if name == "rates":
            self.canceled += 1
            raise psycopg.errors.QueryCanceled("canceling statement due to statement timeout")
        rows: dict[str, list[dict[str, Any]]] = {
            "funnels": [{"funnel": "sign_up", "closed_through_ms": 60_000}],
            "board_messages": [{"messages": 0}],
        }
        return rows.get(name, [])


def test_a_time_line_that_takes_too_long_does_not_keep_the_rest_from_the_page() -> None:
    """What is known otherwise is told, with the query that was too much; it is not asked again at once."""
    database = Slow()
    reader = RecordReader(Settings(), database.lend, lambda: 10_000_000, lambda: [BoardQuery()])
    for _ in range(3):
        record = reader.read()
        assert record.closed_through == {"sign_up": 60_000}
        assert record.histories == {}
        assert record.slow == {BoardQuery()}
    assert database.canceled == 1


@pytest.mark.parametrize(("redis_url", "blamed"), [("redis://127.0.0.1:1/0", "Redis"), ("", "TimescaleDB")])
def test_newest_windows_that_cannot_be_read_are_told_of_the_server_that_has_them(
    away: Away, redis_url: str, blamed: str
) -> None:
    """Where no Redis is configured, nothing is said of it."""
    hub = Hub(Settings(redis_url=redis_url, kafka_bootstrap_servers="127.0.0.1:1"), away.database)
    hub.cache.error = "too slow"
    health = json.loads(hub.messages(BoardQuery("sign_up"))["health"])
    assert health["errors"] == [{"server": blamed, "error": "too slow"}]
    hub.cache.error, hub.cache.answered_ms = None, 1
    [silent] = json.loads(hub.messages(BoardQuery("sign_up", (("os", "iOS"),)))["health"])["errors"]
    assert (silent["server"], silent["error"].startswith("no answer for")) == (blamed, True)
    hub.stop()
