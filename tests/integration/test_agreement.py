"""Command line, query API, board, Grafana and a group-by over the raw topic tell the same numbers."""

from __future__ import annotations

import json
import math
import random
import urllib.request
from collections import Counter, defaultdict
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch import FunnelProducer
from funnelwatch.format import clock
from funnelwatch.schemas.codec import Decoder, Undecodable
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.wilson import wilson_interval
from tests.command import succeed_json
from tests.grafana import View, answers, dashboard
from tests.integration.test_cli_rate import SMS
from tests.stack import wait_until
from tests.traffic import STEPS, done, event, everything, now_ms, prepared, produce, some_events
from tests.web import Served, served
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from funnelwatch.schemas.settings import Settings

MINUTE_MS = 60_000
RANGE_MS = 20 * MINUTE_MS

Group = tuple[str, ...]
Counts = dict[Group, tuple[int, int, int]]
"""Step, and os or start where they are told apart, to impressions, successes and failures."""


def raw_events(settings: Settings) -> list[dict[str, Any]]:
    """The events of the topic: what is decoded, each event_id once, the first that its partition has."""
    decode = Decoder("FunnelEvent")
    found: dict[str, dict[str, Any]] = {}
    for message in everything(settings, settings.events_topic):
        try:
            one = decode(message.value())
        except Undecodable:
            continue
        found.setdefault(one["event_id"], one)
    return list(found.values())


def by_hand(events: list[dict[str, Any]], group: Callable[[Mapping[str, Any]], Group]) -> Counts:
    """Impressions, successes and failures of each group."""
    sums: dict[Group, Counter[str]] = defaultdict(Counter)
    for one in events:
        sums[group(one)][one["status"] or "SHOWN"] += 1
    return {key: (each["SHOWN"], each["SUCCESS"], each["FAILURE"]) for key, each in sums.items()}


def of_rows(rows: list[dict[str, Any]], *names: str) -> Counts:
    """The counts of rows; each row's rate and interval must be those of its counts."""
    for row in rows:
        shown, made = row["impressions"], row["successes"]
        assert row["rate"] == (made / shown if shown else None)
        assert (row["low"], row["high"]) == (wilson_interval(made, shown) if 0 < made <= shown else (None, None))
    counts = ("impressions", "successes", "failures")
    return {
        tuple(row[name] for name in names): tuple(row[name] for name in counts)
        for row in rows
        if any(row[name] for name in counts)
    }


def of_grafana(settings: Settings, name: str, begin: int, wanted: dict[str, list[str]]) -> dict[str, list[Any]]:
    """What each panel of a dashboard is answered, by its title."""
    with closing(Database(settings.timescale_url)) as database:
        view = View(begin, begin + RANGE_MS - 1)
        view.choose(database, dashboard(name), wanted)
        return answers(database, view, dashboard(name))


def send_metrics(settings: Settings, begin: int) -> None:
    """A counter and a timer of two providers in the twenty minutes, one of five sent twice."""
    chance = random.Random(7)
    with FunnelProducer(settings) as producer:
        for number in range(500):
            timer = chance.random() < 0.5
            metric = {
                "event_id": f"m{number}",
                "name": "sms_delivery" if timer else "sms_sent",
                "kind": "TIMER" if timer else "COUNTER",
                "value": round(chance.lognormvariate(6, 1)) if timer else chance.randrange(4),
                "dimensions": {"os": chance.choice(["iOS", "Android"]), "provider": chance.choice(["a", 'it"s'])},
                "ts": begin + chance.randrange(RANGE_MS),
            }
            for _ in range(1 if number % 5 else 2):
                assert producer.record(metric)


def metrics_done(settings: Settings) -> tuple[int, int, int]:
    """Accepted, rejected and duplicate samples."""
    with closing(Database(settings.timescale_url)) as database:
        [row] = database.query("dealt_with", {"topic": settings.metrics_topic})
        return row["accepted"], row["rejected"], row["duplicates"]


@pytest.fixture
def counted(settings: Settings) -> Iterator[tuple[Settings, int]]:
    """Events of twenty minutes with some sent twice, some late and some that are none, counted; and when they begin."""
    quick = {"allowed_disorder_s": 0.5, "idle_timeout_s": 1.0}
    settings = prepared(settings.model_copy(update=quick))
    begin = (now_ms() - RANGE_MS) // MINUTE_MS * MINUTE_MS
    events = some_events(3_000, seed=5, begin=begin, spread_ms=RANGE_MS - MINUTE_MS)
    events += [event(step=SMS, ts=begin) for _ in range(200)]
    with worker(settings) as running:
        running.wait_assigned()
        produce(settings, [*events, *events[:100], b"no event", b""])
        wait_until(lambda: done(settings, len(events) + 102), "all are dealt with", 120)
        late = some_events(50, seed=6, begin=begin, spread_ms=MINUTE_MS)
        produce(settings, late)
        send_metrics(settings, begin)
        wait_until(lambda: done(settings, len(events) + 152), "the late ones too", 120)
        wait_until(lambda: metrics_done(settings) == (500, 0, 100), "counters and timers", 120)
        yield settings, begin


def test_everybody_who_is_asked_tells_the_same_numbers(counted: tuple[Settings, int]) -> None:
    """By step, by os and by five minutes; how long successes took; and counters and timers."""
    settings, begin = counted
    events = raw_events(settings)
    assert len(events) == 3_250
    hand = {
        (): by_hand(events, lambda one: (one["step"],)),
        ("os",): by_hand(events, lambda one: (one["step"], one["os"])),
        ("start",): by_hand(events, lambda one: (one["step"], clock(one["ts"] // (5 * MINUTE_MS) * 5 * MINUTE_MS))),
    }
    asked = {(): {}, ("os",): {"by": "os"}, ("start",): {"every": "5m"}}
    since, until = clock(begin), clock(begin + RANGE_MS)
    with served(settings) as api:
        for names, more in asked.items():
            options = [part for name, value in more.items() for part in (f"--{name}", value)]
            typed = succeed_json(settings, "rate", "--since", since, "--until", until, *options)
            assert of_rows(typed["rows"], "step", *names) == hand[names]
            told = api.get("/api/v1/rates", {"since": since, "until": until, **more}).json
            for answer in (told, typed):
                answer.pop("complete_through"), answer.pop("freshness")  # they move on meanwhile
            told.pop("includes_open_windows"), typed.pop("includes_open_windows")
            assert told == typed
        check_times(settings, api, begin, events)
        check_metrics(settings, api, begin)
        check_board(api, begin, hand[()], hand["os",])

    panels = of_grafana(settings, "funnel", begin, {"funnel": ["sign_up"]})
    numbers = ("impressions", "successes", "failures")
    assert {(row["step"],): tuple(row[name] for name in numbers) for row in panels["Steps A"]} == hand[()]
    assert [row["rate"] for row in panels["Steps A"]] == [hand[()][step,][1] / hand[()][step,][0] for step in STEPS]
    assert {(row["step"], row["value"]): row["impressions"] for row in panels["By os A"]} == {
        key: counts[0] for key, counts in hand["os",].items()
    }


def check_times(settings: Settings, api: Served, begin: int, events: list[dict[str, Any]]) -> None:
    """The API's quantiles are those of the raw durations up to their error, and Grafana's minute by minute."""
    took = sorted(
        one["duration_ms"]
        for one in events
        if one["status"] == "SUCCESS" and one["duration_ms"] is not None and one["step"] == SMS
    )
    asked = {"since": clock(begin), "until": clock(begin + RANGE_MS), "step": SMS}
    [row] = api.get("/api/v1/timers", asked).json["rows"]
    assert row["conversions"] == len(took)
    for name, share in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99)):
        exact = took[math.ceil(share * len(took)) - 1]
        assert exact * 0.875 <= row[name] <= exact * 1.125
    panels = of_grafana(settings, "step", begin, {"funnel": ["sign_up"], "step": [SMS]})
    rows = api.get("/api/v1/timers", {**asked, "every": "1m"}).json["rows"]
    [title] = [title for title in panels if title.startswith("Time to convert")]
    assert [
        (clock(round(one["time"].timestamp() * 1000)), one["p50"], one["p90"], one["p99"]) for one in panels[title]
    ] == [(one["start"], one["p50_ms"], one["p90_ms"], one["p99_ms"]) for one in rows]


def check_metrics(settings: Settings, api: Served, begin: int) -> None:
    """Counters and timers: API, command line, SQL, Grafana and the raw topic, by dimension and by five minutes."""
    decode, raw = Decoder("Metric"), dict[str, dict[str, Any]]()
    for message in everything(settings, settings.metrics_topic):
        one = decode(message.value())
        raw.setdefault(one["event_id"], one)
    since, until = clock(begin), clock(begin + RANGE_MS)
    for name in ("sms_sent", "sms_delivery"):
        hand: dict[Group, list[int]] = defaultdict(list)
        for one in raw.values():
            if one["name"] == name:
                span = clock(one["ts"] // (5 * MINUTE_MS) * 5 * MINUTE_MS)
                hand[span, one["dimensions"]["os"], one["dimensions"]["provider"]].append(one["value"])
        asked = {"since": since, "until": until, "every": "5m", "by": ["os", "provider"]}
        told = api.get(f"/api/v1/metrics/{name}", asked).json
        typed = ["--since", since, "--until", until, "--every", "5m", "--by", "os", "--by", "provider"]
        assert told == succeed_json(settings, "metrics", name, *typed)
        rows = {(row["start"], *row["dimensions"].values()): row for row in told["rows"] if row["samples"]}
        sums = {key: (len(values), sum(values)) for key, values in hand.items()}
        assert {key: (row["samples"], row["total"]) for key, row in rows.items()} == sums
        for key, values in hand.items() if name == "sms_delivery" else ():
            exact = sorted(values)[math.ceil(0.9 * len(values)) - 1]
            assert exact * 0.875 <= rows[key]["p90_ms"] <= exact * 1.125
        with closing(Database(settings.timescale_url)) as database:
            query = "SELECT sum(samples)::int AS samples, sum(total)::int AS total FROM metrics WHERE name = %s"
            whole = database.connection().execute(query, [name]).fetchone()
        assert whole == {key: sum(row[key] for row in rows.values()) for key in ("samples", "total")}
    panels = of_grafana(settings, "pipeline", begin, {})
    minutes = {"since": since, "until": until, "every": "1m"}
    for title, name, mine, theirs in (
        ("Counters A", "sms_sent", "per_second", "a second"),
        ("Timers A", "sms_delivery", "p90_ms", "p90"),
    ):
        rows = api.get(f"/api/v1/metrics/{name}", minutes).json["rows"]
        assert [(clock(round(one["time"].timestamp() * 1000)), one[theirs]) for one in panels[title]] == [
            (row["start"], row[mine]) for row in rows if row["samples"]
        ]


def check_board(api: Served, begin: int, by_step: Counts, by_os: Counts) -> None:
    """The board's time line adds up to the same impressions and successes, and its newest rates are Redis's."""
    told = live(api, "history")
    within = [place for place, start in enumerate(told["starts"]) if begin <= start < begin + RANGE_MS]
    shown: dict[Group, tuple[int, int]] = {}
    for line in told["series"]:
        group = (line["step"],) if line["os"] is None else (line["step"], line["os"])
        shown[group] = tuple(sum(line[name][place] for place in within) for name in ("impressions", "successes"))
    assert shown == {group: counts[:2] for group, counts in (by_step | by_os).items()}
    now = live(api, "now")
    assert now["source"] == "redis"
    for step in now["steps"]:
        newest = {"since": clock(now["from"]), "until": clock(now["to"]), "step": step["step"]}
        [row] = api.get("/api/v1/rates", newest).json["rows"] or [dict.fromkeys(("impressions", "successes"), 0)]
        assert (step["impressions"], step["successes"]) == (row["impressions"], row["successes"])


def live(api: Served, name: str) -> Any:
    """The first event of that name with something in it that the board's page would be sent."""
    with urllib.request.urlopen(f"{api.url}/live?since=1h", timeout=120) as stream:
        fields: dict[str, str] = {}
        for line in stream:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            fields[field] = value
            if field:
                continue
            told = json.loads(fields.get("data") or "null")
            if fields.get("event") == name and (told.get("steps") or told.get("series")):
                return told
            fields = {}
    raise AssertionError(f"the stream ended without {name}")
