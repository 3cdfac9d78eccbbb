"""The ledger of docs/sessions.md through a worker: every surface shows what the reference counts."""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml
from confluent_kafka import Producer

from funnelwatch.format import clock
from funnelwatch.schemas.redaction import revealed
from funnelwatch.sinks.redis.cache import CountCache
from tests.command import succeed_json
from tests.reference.events import Avro, accepted_events, records_of
from tests.reference.sessions import HOUR_MS, count_sessions
from tests.stack import wait_until
from tests.traffic import ENCODE, counted, done, event, now_ms, prepared
from tests.unit.test_sessions_doc import FUNNEL, NAME, RECORDS
from tests.web import served
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from funnelwatch.schemas.counts import Series
    from funnelwatch.schemas.settings import Settings
    from tests.reference.sessions import Counts, Key

VIEWS = {
    "session_conversion": "sessions, session_successes",
    "session_funnel": "reached, completed",
}
PEOPLE = slice(5, 9)
"""The columns of a row of counts."""


@pytest.fixture(scope="module")
def shift_ms() -> int:
    """The ledger's hours are the last ones."""
    hour = RECORDS[0].log_time // HOUR_MS * HOUR_MS
    return now_ms() // HOUR_MS * HOUR_MS - 4 * HOUR_MS - hour


@pytest.fixture
def after_the_ledger(settings: Settings, shift_ms: int, tmp_path: Path) -> Iterator[tuple[Settings, dict[Key, Counts]]]:
    """Workers have counted the ledger, the first was killed in its middle; and what the reference counts."""
    declaration = {"steps": list(FUNNEL.steps), "dimensions": list(FUNNEL.dimensions), "session_window": "1h"}
    (tmp_path / "funnels.yml").write_text(yaml.safe_dump({"funnels": {NAME: declaration}}))
    update = {
        "funnels_path": tmp_path / "funnels.yml",
        "topic_partitions": 1,
        "window_s": 3600,
        "cache_horizon_s": 86_400.0,
    }
    settings = prepared(settings.model_copy(update=update))
    with worker(settings) as first:
        first.wait_assigned()
        produce(settings, RECORDS[:13], shift_ms)
        wait_until(lambda: done(settings, 13), "the first part is counted", 60)
        first.kill()
    with worker(settings):
        produce(settings, RECORDS[13:], shift_ms)
        wait_until(lambda: done(settings, len(RECORDS)), "the ledger is counted", 60)
        records = records_of(settings.kafka(), settings.events_topic)
        events = accepted_events(records, Avro(), set(), int(settings.duplicate_horizon_s * 1000))
        yield settings, count_sessions(events, {NAME: FUNNEL}, HOUR_MS)


def produce(settings: Settings, records: list[Any], shift_ms: int) -> None:
    """Put records of the ledger on the topic, with their timestamps."""
    producer = Producer(settings.kafka())
    for one in records:
        fields = {"event_id": one.event_id, "sign_up_session_id": one.session_id, "step": one.step, "os": one.os}
        fields |= {"phase": one.phase, "status": one.status, "ts": one.ts + shift_ms, "funnel": one.funnel}
        made = event(**fields, browser="", app_version="", duration_ms=None)
        producer.produce(
            settings.events_topic, ENCODE(made), one.session_id.encode(), timestamp=one.log_time + shift_ms
        )
    assert producer.flush(60) == 0


def sums(counts: Mapping[Key, Counts], *columns: int) -> dict[tuple[str, str], tuple[int, ...]]:
    """Some columns by step and os, over all windows; without those that count nothing."""
    found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * len(columns))
    for (_, _, step, names), numbers in counts.items():
        for at, column in enumerate(columns):
            found[step, dict(names)["os"]][at] += numbers[column]
    return {key: tuple(numbers) for key, numbers in found.items() if any(numbers)}


def test_every_surface_shows_the_sessions_of_the_reference(
    after_the_ledger: tuple[Settings, dict[Key, Counts]],
) -> None:
    """Database, views, rollups, Redis, command line and API, window by window or step by step."""
    settings, expected = after_the_ledger
    assert len(expected) == 12
    assert people_of(counted(settings)) == expected

    with psycopg.connect(revealed(settings.timescale_url)) as database:
        for (view, columns), places in zip(VIEWS.items(), ((0, 1), (2, 3)), strict=True):
            for level in ("", "_1h"):
                rows = database.execute(
                    f"SELECT step, os, {columns} FROM {view}{level} WHERE funnel = %s",
                    [NAME],  # type: ignore[arg-type]
                )
                shown: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
                for step, os, *numbers in rows:
                    shown[step, os] = [a + b for a, b in zip(shown[step, os], numbers, strict=True)]
                assert {key: tuple(one) for key, one in shown.items() if any(one)} == sums(expected, *places), view

    windows = {key[0] for key in expected}
    wait_until(lambda: people_of(cached(settings, windows)) == expected, "Redis has the same", 60)

    spans = {"since": clock(min(windows)), "until": clock(max(windows) + HOUR_MS)}
    options = [text for name, value in spans.items() for text in (f"--{name}", value)]
    for answer in (
        succeed_json(settings, "funnel", NAME, *options, "--by", "os"),
        *asked(settings, "/api/v1/funnel", {**spans, "funnel": NAME, "by": "os"}),
    ):
        rows = {(row["step"], row["os"]): (row["reached"], row["completed"]) for row in answer["rows"]}
        assert {key: one for key, one in rows.items() if any(one)} == sums(expected, 2, 3)
    for answer in (
        succeed_json(settings, "rate", "--funnel", NAME, "--basis", "session", *options, "--by", "os"),
        *asked(settings, "/api/v1/rates", {**spans, "funnel": NAME, "by": "os", "basis": "session"}),
    ):
        rows = {(row["step"], row["os"]): (row["sessions"], row["session_successes"]) for row in answer["rows"]}
        assert {key: one for key, one in rows.items() if any(one)} == sums(expected, 0, 1)
        assert all(row["rate"] is None or row["rate"] <= 1 for row in answer["rows"])


def people_of(counts: Mapping[tuple[int, Series], Any]) -> dict[Key, Counts]:
    """The session columns of rows that have any."""
    return {
        (window, series.funnel, series.step, series.dimensions): tuple(row[PEOPLE])
        for (window, series), row in counts.items()
        if any(row[PEOPLE])
    }


def cached(settings: Settings, windows: Iterable[int]) -> dict[tuple[int, Series], Any]:
    """What Redis has of some windows."""
    with closing(CountCache(settings.redis_url, settings.redis_prefix, settings.cache_horizon_s)) as cache:
        return {(window, one): row for window in windows for one, row in cache.read(NAME, window).items()}


def asked(settings: Settings, path: str, parameters: dict[str, str]) -> Iterator[Any]:
    """The answer of the API."""
    with served(settings) as api:
        yield api.get(path, parameters).json
