"""An idle worker leaves Kafka and the database alone: requests and statements are counted over a while."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer

import funnelwatch.stream.intake
from funnelwatch.stream.intake.consumer import LONGEST_FETCH_WAIT_MS
from funnelwatch.stream.intake.fetcher import Fetcher
from funnelwatch.stream.worker.kafka_admin import ANSWER_TIMEOUT_S
from tests.proxy import Door
from tests.stack import not_on_tansu, wait_until
from tests.traffic import done, prepared, produce, some_events
from tests.worker import worker

if TYPE_CHECKING:
    import socket

    import pytest

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.counts import CountStore

LENGTH = 4
NO_ENCRYPTION = (80877103, 80877104)
"""Codes by which a client of PostgreSQL asks for TLS or GSSAPI before it begins."""


class CountingDoor(Door):
    """Counts what clients send to PostgreSQL through it.

    Attributes:
        statements: by the text that a statement begins with, how often it was sent.
    """

    def __init__(self, host: str, port: int) -> None:
        self.statements: Counter[str] = Counter()
        super().__init__(host, port)

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        client = source.getsockname()[1] == self.port
        super()._copy(Counted(source, self.statements) if client else source, sink)  # type: ignore[arg-type]


class Counted:
    """A client's socket that notes the statements which are read from it; each begins with a word."""

    def __init__(self, source: socket.socket, statements: Counter[str]) -> None:
        self._source = source
        self._statements = statements
        self._buffer = b""
        self._begun = False
        self._names: dict[bytes, str] = {}
        self._bound = ""

    def __getattr__(self, name: str) -> Any:
        """Whatever else a socket does."""
        return getattr(self._source, name)

    def recv(self, size: int) -> bytes:
        """The next bytes, noted."""
        data = self._source.recv(size)
        self._buffer += data
        while self._note():
            pass
        return data

    def _note(self) -> bool:
        """Note one message, if the buffer has a whole one."""
        skip = 1 if self._begun else 0
        if len(self._buffer) < skip + LENGTH:
            return False
        end = skip + int.from_bytes(self._buffer[skip : skip + LENGTH], "big")
        if len(self._buffer) < end:
            return False
        kind, body, self._buffer = self._buffer[:skip], self._buffer[skip + LENGTH : end], self._buffer[end:]
        if not self._begun:
            self._begun = int.from_bytes(body[:LENGTH], "big") not in NO_ENCRYPTION
        elif kind == b"Q":
            self._statements[_summary(body)] += 1
        elif kind == b"P":
            name, _, rest = body.partition(b"\0")
            self._names[name] = _summary(rest)
        elif kind == b"B":
            self._bound = self._names.get(body.split(b"\0")[1], "?")
        elif kind == b"E":
            self._statements[self._bound] += 1
        return True


def _summary(text: bytes) -> str:
    lines = text.partition(b"\0")[0].decode().splitlines()
    return " ".join(" ".join(line for line in lines if not line.startswith("--")).split())[:70]


@not_on_tansu("answers a fetch only when its time is over")
def test_an_idle_intake_asks_kafka_seldom(
    settings: Settings, store: CountStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka answers a fetch when a record comes; until then one request waits. 500 ms each were two a second."""
    requests: list[int] = []

    def note(text: str) -> None:
        requests.append(sum(broker["req"].get("Fetch", 0) for broker in json.loads(text)["brokers"].values()))

    def counted(properties: dict[str, Any], **more: Any) -> Consumer:
        return Consumer({**properties, "statistics.interval.ms": 500, "stats_cb": note}, **more)

    monkeypatch.setattr(funnelwatch.stream.intake.fetcher, "Consumer", counted)
    fetcher = Fetcher(prepared(settings), lambda: "id", store, threading.Event())
    try:
        wait_until(lambda: len(fetcher.fetch().at_end) == settings.topic_partitions, "all is read")
        before, begun = len(requests), time.monotonic()
        wait_until(lambda: fetcher.fetch() is not None and len(requests) >= before + 8, "four seconds pass")
        rate = (requests[-1] - requests[before]) / (time.monotonic() - begun)
        assert 0 < rate < 3, "requests a second"
    finally:
        fetcher.close()


@not_on_tansu("answers a fetch only when its time is over")
def test_a_client_whose_fetch_waits_for_records_is_not_taken_for_dead(settings: Settings, store: CountStore) -> None:
    """The broker answers a question behind the fetch of its connection: in seconds, and within the time allowed."""
    settings = prepared(settings)
    fetcher = Fetcher(settings, lambda: "id", store, threading.Event(), role="metrics")
    try:
        wait_until(lambda: len(fetcher.fetch().at_end) == settings.topic_partitions, "all is read")
        slowest = 0.0
        for _ in range(4):
            begun = time.monotonic()
            fetcher.ask_kafka(ANSWER_TIMEOUT_S)
            slowest = max(slowest, time.monotonic() - begun)
        assert slowest > LONGEST_FETCH_WAIT_MS / 2_000, "no question waited behind a fetch"
    finally:
        fetcher.close()


def test_an_idle_worker_asks_the_database_seldom(settings: Settings) -> None:
    """Single statements go without BEGIN and COMMIT, and late windows are looked for where there are some."""
    from urllib.parse import urlsplit

    from funnelwatch.schemas.redaction import revealed

    url = revealed(settings.timescale_url)
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    door = CountingDoor(parts.hostname, parts.port)
    try:
        through = url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{door.port}")
        with worker(prepared(settings), timescale_url=through) as one:
            one.wait_assigned()
            produce(settings, some_events(100))
            wait_until(lambda: done(settings, 100), "events are counted")
            wait_until(lambda: is_quiet(door), "the database is left alone; the last look is printed")
    finally:
        door.close()


def is_quiet(door: CountingDoor) -> bool:
    """Whether few statements come for some seconds; a worker that has just begun reads its history first."""
    door.statements.clear()
    begun = time.monotonic()
    time.sleep(4)
    seconds, found = time.monotonic() - begun, Counter(door.statements)
    print("\n".join(f"{count / seconds:6.1f}/s {text}" for text, count in found.most_common()), "\n")
    around = found["BEGIN"] + found["COMMIT"]
    return 0 < found.total() / seconds < MOST_STATEMENTS and around / seconds < MOST_AROUND


MOST_STATEMENTS, MOST_AROUND = 30, 4
"""Statements a second, and of these BEGIN and COMMIT; there were 90 and 61."""
