"""SQL, command line and query API tell of sessions what the reference counts from the raw topic."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import pytest

from funnelwatch.format import clock
from funnelwatch.schemas.funnels import SIGN_UP
from funnelwatch.sinks.timescale.database import Database
from tests.command import succeed_json
from tests.reference.events import Avro, accepted_events, records_of
from tests.reference.sessions import Funnel, count_sessions
from tests.stack import wait_until
from tests.traffic import done, event, now_ms, prepared, produce
from tests.web import served
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings

MINUTE_MS = 60_000
RANGE_MS = 20 * MINUTE_MS
WIDTHS = {"": MINUTE_MS, "_5m": 5 * MINUTE_MS, "_1h": 60 * MINUTE_MS, "_1d": 1440 * MINUTE_MS}

Rows = dict[tuple[Any, ...], tuple[int, int]]


def walk(chance: random.Random, name: str, begin: int) -> Iterator[dict[str, Any]]:
    """The events of one session: steps in order, again, skipped or the wrong way round, perhaps on two devices."""
    ts = begin + chance.randrange(RANGE_MS - 5 * MINUTE_MS)
    place = chance.choice((0, 0, 0, 0, 1))
    os = chance.choice(("iOS", "Android"))
    for _ in range(chance.randrange(1, 9)):
        ts += chance.randrange(MINUTE_MS // 2)
        if chance.random() < 0.1:
            os = "Web"
        own = {"sign_up_session_id": name, "step": SIGN_UP[place], "os": os}
        yield event(**own, ts=ts)
        if chance.random() < 0.8:
            status = chance.choice(("SUCCESS", "SUCCESS", "FAILURE"))
            yield event(**own, phase="POST_VERIFICATION", status=status, ts=ts + 2_000, duration_ms=2_000)
        place = min(max(place + chance.choice((-1, 0, 1, 1, 1, 2)), 0), len(SIGN_UP) - 1)


@pytest.fixture
def counted(settings: Settings) -> Iterator[tuple[Settings, int]]:
    """Four hundred sessions of twenty minutes side by side, some events sent twice, counted; and when they begin."""
    settings = prepared(settings.model_copy(update={"allowed_disorder_s": 0.5, "idle_timeout_s": 1.0}))
    begin = (now_ms() - RANGE_MS) // MINUTE_MS * MINUTE_MS
    chance = random.Random(11)
    # Each session in its own order, all of them interleaved.
    waiting = [list(walk(chance, f"session {number}", begin)) for number in range(400)]
    events = []
    while waiting:
        one = chance.choice(waiting)
        events.append(one.pop(0))
        if not one:
            waiting.remove(one)
    with worker(settings) as running:
        running.wait_assigned()
        produce(settings, [*events, b"no event", *events[::7]])
        wait_until(lambda: done(settings, len(events) + 1 + len(events[::7])), "all are dealt with", 120)
        yield settings, begin


def added_up(counts: dict[Any, tuple[int, int, int, int]], width_ms: int, by: tuple[str, ...]) -> tuple[Rows, Rows]:
    """By start, step and some dimensions: sessions with their successes, and reached with completed."""
    sums: Counter[tuple[Any, ...]] = Counter()
    for (window, _, step, dimensions), numbers in counts.items():
        start = (window // width_ms * width_ms,) if width_ms else ()
        group = (*start, step, *(dict(dimensions).get(name, "") for name in by))
        sums.update({(place, *group): number for place, number in enumerate(numbers)})
    groups = {key[1:] for key in sums}
    seen = {group: (sums[0, *group], sums[1, *group]) for group in groups}
    reached = {group: (sums[2, *group], sums[3, *group]) for group in groups}
    return {key: two for key, two in seen.items() if two[0]}, {key: two for key, two in reached.items() if two[0]}


def test_everybody_who_is_asked_tells_the_same_of_sessions(counted: tuple[Settings, int]) -> None:
    """Views of every level, command line and API, all together and by os; no session is final yet."""
    settings, begin = counted
    events = accepted_events(records_of(settings.kafka(), settings.events_topic), Avro(), rejected(settings), 10**9)
    counts = count_sessions(events, {"sign_up": Funnel(SIGN_UP)}, settings.window_ms)
    assert sum(numbers[0] for numbers in counts.values()) > 1_000
    with closing(Database(settings.timescale_url)) as database:
        for level, width_ms in WIDTHS.items():
            seen, reached = added_up(counts, width_ms, ("os", "app_version"))
            assert of_view(database, f"session_conversion{level}", "sessions", "session_successes") == seen
            assert of_view(database, f"session_funnel{level}", "reached", "completed") == reached
    since, until = clock(begin), clock(begin + RANGE_MS)
    with served(settings) as api:
        for by in ((), ("os",)):
            seen, reached = added_up(counts, 0, by)
            options = ["--since", since, "--until", until, *(["--by", ",".join(by)] if by else [])]
            asked = {"since": since, "until": until, **({"by": ",".join(by)} if by else {})}
            rates = succeed_json(settings, "rate", "--basis", "session", *options)["rows"]
            assert of_rows(rates, ("step", *by), "sessions", "session_successes") == seen
            assert api.get("/api/v1/rates", {**asked, "basis": "session"}).json["rows"] == rates
            funnel = succeed_json(settings, "funnel", "sign_up", *options)
            assert of_rows(funnel["rows"], ("step", *by), "reached", "completed") == reached
            assert all(row["open"] == row["reached"] for row in funnel["rows"])
            told = api.get("/api/v1/funnel", asked).json
            assert (told["rows"], told["conversions"]) == (funnel["rows"], funnel["conversions"])
    first, last = (sum(two[0] for key, two in reached.items() if key[0] == step) for step in (SIGN_UP[0], SIGN_UP[-1]))
    assert 300 < first < 400, "some sessions never saw the first step"
    assert 0 < last < first


def rejected(settings: Settings) -> set[tuple[int, int]]:
    """Where the records stand that are no events: of these, the one that cannot be decoded."""
    return {
        (one.partition, one.offset)
        for one in records_of(settings.kafka(), settings.events_topic)
        if one.value == b"no event"
    }


def of_view(database: Database, view: str, *names: str) -> Rows:
    """The rows of a view, by start, step, os and app version."""
    with database.transaction() as cursor:
        rows = cursor.execute(cast("Any", f"SELECT * FROM {view} WHERE funnel = 'sign_up' AND is_open")).fetchall()
    found = {
        (int(row["window_start"].timestamp() * 1000), row["step"], row["os"], row["app_version"]): (
            row[names[0]],
            row[names[1]],
        )
        for row in rows
    }
    assert len(found) == len(rows)
    return found


def of_rows(rows: list[dict[str, Any]], keys: tuple[str, ...], *names: str) -> Rows:
    """The rows of an answer that count anything."""
    return {tuple(row[key] for key in keys): (row[names[0]], row[names[1]]) for row in rows if row[names[0]]}
