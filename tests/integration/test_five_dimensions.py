"""A funnel with five dimensions of its own: every output agrees with a group-by over the raw topic."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.deploy.grafana.documents import documents
from funnelwatch.format import clock
from funnelwatch.schemas.counts import Series
from funnelwatch.sinks.redis.cache import CountCache
from funnelwatch.sinks.timescale.database import Database
from tests.by_hand import counts_by_hand
from tests.command import succeed_json
from tests.grafana import View, answers
from tests.integration.test_agreement import raw_events
from tests.reference.sessions import Funnel
from tests.stack import wait_until
from tests.traffic import closed_windows, done, event, now_ms, prepared, produce
from tests.web import served
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

MINUTE_MS = 60_000
RANGE_MS = 10 * MINUTE_MS
OWN = ("city", "country", "experiment", "plan", "referrer")
STEPS = ("CART", "PAYMENT")
FUNNELS = f"""
funnels:
  shop: {{steps: [{", ".join(STEPS)}], dimensions: [{", ".join(OWN)}]}}
  sign_up: [INPUT_PHONE_NUMBER, VERIFY_SMS_CODE, INPUT_NAME, INPUT_PASSWORD]
"""
VALUES = {
    "city": ["Köln", "Wien", 'a "city"', "it's"],
    "country": ["DE", "AT", ""],
    "experiment": ["a", "b"],
    "plan": ["free", "pro", "☃"],
    "referrer": ["none", "{x}", "1,2"],
}

ASKED: list[tuple[tuple[str, ...], dict[str, str]]] = [
    ((), {}),
    (("country",), {}),
    (("plan", "city"), {"experiment": "a"}),
    (OWN, {}),
    (("referrer",), {"country": "", "plan": "☃"}),
]
"""What to group by, and what to select."""

Rows = dict[tuple[int, Series], list[int]]


def sent(begin: int) -> list[dict[str, Any]]:
    """Events of the funnel with its dimensions, some missing, and one more that it does not declare."""
    chance = random.Random(3)
    made = []
    for number in range(4_000):
        contexts = {name: chance.choice(values) for name, values in VALUES.items() if chance.random() < 0.9}
        outcome = chance.choice([None, None, "SUCCESS", "FAILURE"])
        made.append(
            event(
                funnel="shop",
                step=chance.choice(STEPS),
                os=chance.choice(["iOS", "Android"]),
                contexts={**contexts, "request": str(number)},
                phase="POST_VERIFICATION" if outcome else "IMPRESSION",
                status=outcome,
                ts=begin + chance.randrange(RANGE_MS),
                duration_ms=chance.randrange(40_000) if outcome else None,
            )
        )
    return made


@pytest.fixture
def counted(settings: Settings, tmp_path: Path) -> Iterator[tuple[Settings, int]]:
    """The events, counted and closed, some late and some sent twice; and when they begin."""
    file = tmp_path / "funnels.yml"
    file.write_text(FUNNELS)
    quick = {"allowed_disorder_s": 0.5, "idle_timeout_s": 1.0, "funnels_path": file}
    settings = prepared(settings.model_copy(update=quick))
    begin = (now_ms() - RANGE_MS) // MINUTE_MS * MINUTE_MS - MINUTE_MS
    events = sent(begin)
    with worker(settings) as running:
        running.wait_assigned()
        produce(settings, [*events[:3_900], *events[:100]])
        wait_until(lambda: done(settings, 4_000), "all are dealt with", 120)
        produce(settings, [*events[3_900:], event(ts=now_ms())])
        wait_until(lambda: done(settings, 4_101), "the late ones too", 120)
        yield settings, begin


def published(settings: Settings) -> Rows:
    """Impressions, successes and failures in the newest revision of each closed window."""
    newest: dict[int, int] = defaultdict(int)
    found: dict[tuple[int, int], Rows] = defaultdict(dict)
    for window in closed_windows(settings):
        if window["funnel"] != "shop":
            continue
        start, revision = window["window_start"], window["revision"]
        newest[start] = max(newest[start], revision)
        for one in window["series"]:
            assert (one["os"], one["browser"], one["app_version"]) == ("", "", "")
            names = ("impressions", "successes", "failures")
            key = start, Series.of("shop", one["step"], **one["dimensions"])
            found[start, revision][key] = [one[name] for name in names]
    return {
        key: counts
        for (start, revision), rows in found.items()
        if revision == newest[start]
        for key, counts in rows.items()
        if any(counts)
    }


def stored(settings: Settings) -> Rows:
    """The counts of the view that people query."""
    query = """
        SELECT (extract(epoch FROM window_start) * 1000)::bigint AS start, step, os, dimensions,
            c.impressions, c.successes, c.failures, c.cohort_successes, c.cohort_failures,
            w.sessions, w.session_successes, w.reached, w.completed
        FROM conversion AS c INNER JOIN window_counts AS w USING (window_start, series_id)
        WHERE funnel = 'shop'
    """
    with closing(Database(settings.timescale_url)) as database:
        rows = database.connection().execute(query).fetchall()
    assert {row.pop("os") for row in rows} == {""}
    return {
        (start, Series.of("shop", step, **dimensions)): counts
        for start, step, dimensions, *counts in (row.values() for row in rows)
    }


def cached(settings: Settings, begin: int) -> Rows:
    """The counts in Redis."""
    cache = CountCache(settings.redis_url, settings.redis_prefix, settings.cache_horizon_s)
    try:
        windows = range(begin - 2 * MINUTE_MS, begin + RANGE_MS, MINUTE_MS)
        found = cache.read_many("shop", list(windows))
        return {(start, series): list(row) for start, rows in found.items() for series, row in rows.items()}
    finally:
        cache.close()


def test_every_output_agrees_with_a_group_by_over_the_raw_topic(counted: tuple[Settings, int]) -> None:
    """Of five dimensions from contexts, some without a value, with quotes, braces, commas and other alphabets."""
    settings, begin = counted
    events = [one for one in raw_events(settings) if one["funnel"] == "shop"]
    assert len(events) == 4_000
    hand = counts_by_hand(events, MINUTE_MS, funnel="shop", declared=Funnel(STEPS, OWN))
    assert len({series for _, series in hand}) > 500
    assert stored(settings) == hand
    assert cached(settings, begin) == hand
    # Late successes of a cohort alone make no revision; they are in the next one.
    counted_events = {key: counts[:3] for key, counts in hand.items() if any(counts[:3])}
    wait_until(lambda: published(settings) == counted_events, "the last revision of every window is published", 120)
    check_questions(settings, begin, hand)
    check_grafana(settings, begin, hand)


def grouped(hand: Rows, by: Sequence[str], where: Mapping[str, str]) -> dict[tuple[str, ...], list[int]]:
    """Impressions, successes and failures by step and some dimensions, of series with some values."""
    sums: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for (_, series), counts in hand.items():
        if all(series.value(name) == value for name, value in where.items()):
            group = sums[series.step, *map(series.value, by)]
            group[:] = [a + b for a, b in zip(group, counts, strict=False)]
    return {group: counts for group, counts in sums.items() if any(counts)}


def check_questions(settings: Settings, begin: int, hand: Rows) -> None:
    """Command line and API, grouped by one and several dimensions, and filtered by another."""
    since, until = clock(begin), clock(begin + RANGE_MS)
    with served(settings) as api:
        for by, where in ASKED:
            typed = [f"--where={name}={value}" for name, value in where.items()]
            typed += ["--by", ",".join(by)] if by else []
            said = succeed_json(settings, "rate", "--funnel", "shop", "--since", since, "--until", until, *typed)
            asked = {"funnel": "shop", "since": since, "until": until, **({"by": ",".join(by)} if by else {}), **where}
            told = api.get("/api/v1/rates", asked).json
            for rows in (said["rows"], told["rows"]):
                found = {
                    (row["step"], *(row[name] for name in by)): [
                        row[name] for name in ("impressions", "successes", "failures")
                    ]
                    for row in rows
                    if row["impressions"] + row["successes"] + row["failures"]
                }
                assert found == grouped(hand, by, where)


def check_grafana(settings: Settings, begin: int, hand: Rows) -> None:
    """The panels of the dashboard that is generated for the funnel, as a whole and for one country."""
    document = json.loads(documents(OWN)["funnel.json"])
    for chosen in ({}, {"country": ["DE"]}):
        with closing(Database(settings.timescale_url)) as database:
            view = View(begin, begin + RANGE_MS - 1)
            view.choose(database, document, {"funnel": ["shop"], **chosen})
            panels = answers(database, view, document)
        where = {name: value for name, [value] in chosen.items()}
        for name in OWN:
            found = {(row["step"], row["value"]): row["impressions"] for row in panels[f"By {name} A"]}
            sums = grouped(hand, [name], where)
            assert found == {(step, value or "(none)"): counts[0] for (step, value), counts in sums.items()}, name
