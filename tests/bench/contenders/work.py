"""What every contender has to do, and how it says when: for programs of the bench, in whichever environment.

A contender reads ``BENCH`` (JSON) from its environment, prints ``BEGIN`` and the time when it has its first record, and
``END`` and the time when all are counted and the counts are committed to PostgreSQL. A contender whose sink does not
report commits prints no ``END``: the bench queries the table instead. The bench then compares the counts, and only then
do the times count.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from fastavro import parse_schema, schemaless_reader

if TYPE_CHECKING:
    from collections.abc import Mapping

WINDOW_MS = 60_000
TUNED = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "fetch.queue.backoff.ms": 2,
    "fetch.wait.max.ms": 10,
    "queued.max.messages.kbytes": 65_536,
    "queued.min.messages": 20_000,
}
"""librdkafka's properties in the bare loop: those of funnelwatch's intake."""

Key = tuple[int, str, str, str, str, str, str]
"""window, step, os, browser, app version, phase, status (empty for none)"""

UPSERT = """
INSERT INTO counts SELECT * FROM unnest(
    %s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[])
ON CONFLICT (window_ms, step, os, browser, app_version, phase, status) DO UPDATE SET n = counts.n + excluded.n
"""
REPLACE = UPSERT.replace("counts.n + excluded.n", "excluded.n")


@dataclass(frozen=True)
class Task:
    """What a contender is given."""

    kafka: str
    login: dict[str, str]
    """librdkafka properties by which a client logs in."""
    topic: str
    partitions: int
    group: str
    database: str
    events: int
    data: str


def task() -> Task:
    """This process's task."""
    return Task(**json.loads(os.environ["BENCH"]))


def faust_login(given: Task) -> Any:
    """Faust's credentials, where Kafka wants some."""
    if not given.login:
        return None
    import faust

    user, secret = given.login["sasl.username"], given.login["sasl.password"]
    return faust.SASLCredentials(username=user, password=secret, mechanism=given.login["sasl.mechanism"])


def begin() -> None:
    """Say that the first record is here; the first call counts."""
    global _begun  # noqa: PLW0603 - a program of one task
    if not _begun:
        _begun = True
        _say("BEGIN")


_begun = False


def end() -> None:
    """Say that everything is written."""
    _say("END")


def _say(what: str) -> None:
    # Not print: Faust makes log lines of what is printed.
    os.write(1, f"{what} {time.time()}\n".encode())


def _schema() -> Any:
    schema = json.loads((Path(__file__).parents[3] / "schemas" / "funnel_event.avsc").read_text())
    for one in schema["fields"]:
        if isinstance(one["type"], dict) and "logicalType" in one["type"]:
            one["type"] = one["type"]["type"]  # a datetime of each event would only cost time
    return parse_schema(schema)


SCHEMA = _schema()


def decode(value: bytes) -> dict[str, Any]:
    """The event, whichever of the two framings it has."""
    body = BytesIO(value)
    body.seek(10 if value[0] == 0xC3 else 5)
    return schemaless_reader(body, SCHEMA)  # type: ignore[return-value, call-arg]


def key(event: Mapping[str, Any]) -> Key:
    """What the event is counted by."""
    ts = event["ts"]
    return (
        ts - ts % WINDOW_MS,
        event["step"],
        event["os"],
        event["browser"],
        event["app_version"],
        event["phase"],
        event["status"] or "",
    )


class Sink:
    """The table of counts."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url)

    def add(self, counts: Mapping[Key, int], statement: str = UPSERT) -> None:
        """Add counts, committed on return; sorted, so that writers cannot deadlock."""
        if not counts:
            return
        rows = sorted((*key, count) for key, count in counts.items())
        self._connection.execute(statement, [list(column) for column in zip(*rows, strict=True)])
        self._connection.commit()

    def replace(self, counts: Mapping[Key, int]) -> None:
        """Set counts."""
        self.add(counts, REPLACE)
