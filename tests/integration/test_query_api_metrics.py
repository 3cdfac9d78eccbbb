"""Counters and timers by the query API and by the command line, against a real database."""

from __future__ import annotations

import csv
import io
import uuid
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from funnelwatch.format import clock
from funnelwatch.query import metrics
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.metric_counts import MetricSeries
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.retention import Retention, set_retention
from tests.command import run, succeed, succeed_json
from tests.filling import MINUTE_MS, count_metrics
from tests.stack import drop_database, make_database
from tests.web import Served, served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack import Servers

T = 1_794_996_000_000
"""2026-11-18T10:00:00Z."""

RANGE = {"since": clock(T), "until": clock(T + 3 * MINUTE_MS)}
TYPED = ["--since", RANGE["since"], "--until", RANGE["until"]]
SENT, DELIVERY = "/api/v1/metrics/sms_sent", "/api/v1/metrics/sms_delivery"


@pytest.fixture(scope="module")
def counted(stack: Servers) -> Iterator[Settings]:
    """A counter and a timer over three minutes from T on; the counter was once sent without a provider."""
    ios, android = {"os": "iOS", "provider": "a"}, {"os": "Android", "provider": "b"}
    sent = [MetricSeries.of("sms_sent", "COUNTER", one) for one in (ios, android, {"os": "iOS"})]
    took = [MetricSeries.of("sms_delivery", "TIMER", one) for one in (ios, android)]
    samples = [
        (T - 1, sent[0], 1_000),
        (T, sent[0], 12),
        (T + 59_999, sent[0], 0),
        (T + 2 * MINUTE_MS, sent[0], 30),
        (T + MINUTE_MS, sent[1], 5),
        (T + MINUTE_MS, sent[2], 7),
        (T + 3 * MINUTE_MS, sent[1], 1_000),
        *((T, took[0], value) for value in (2, 2, 2, 6)),
        *((T + 2 * MINUTE_MS, took[1], value) for value in (4, 4, 4, 4)),
    ]
    name = f"test_{uuid.uuid4().hex}"
    url = make_database(stack.timescale_url, name, timescaledb=stack.timescaledb)
    settings = Settings(timescale_url=url)
    with closing(Database(url)) as database:
        migrate(database, settings.window_ms)
        count_metrics(database, samples)
    yield settings
    drop_database(stack.timescale_url, name)


@pytest.fixture(scope="module")
def api(counted: Settings) -> Iterator[Served]:
    """The API over them."""
    with served(counted) as running:
        yield running


def test_what_there_is_is_listed_with_kinds_and_dimensions(api: Served) -> None:
    """By name; in CSV the dimensions are JSON."""
    delivery, sent = api.get("/api/v1/metrics").json["metrics"]
    assert delivery.pop("first_seen") <= clock(wall_clock_ms())
    assert delivery == {
        "name": "sms_delivery",
        "kind": "TIMER",
        "series": 2,
        "dimensions": {"os": ["Android", "iOS"], "provider": ["a", "b"]},
    }
    assert (sent["name"], sent["kind"], sent["series"]) == ("sms_sent", "COUNTER", 3)
    [_, row] = csv.DictReader(io.StringIO(api.get("/api/v1/metrics", {"format": "csv"}).text))
    assert (row["name"], row["dimensions"]) == ("sms_sent", '{"os": ["Android", "iOS"], "provider": ["a", "b"]}')


def test_a_counter_has_its_total_and_how_many_that_is_a_second(api: Served) -> None:
    """Over the whole range; what is told apart, and a series without the dimension; half-open as everywhere."""
    answer = api.get(SENT, RANGE).json
    assert answer.pop("freshness")["state"] == "unknown", "no worker has ever been heard of"
    assert answer | {"rows": []} == {
        "name": "sms_sent",
        "filters": {},
        "from": RANGE["since"],
        "to": RANGE["until"],
        "window_s": 60.0,
        "rows": [],
    }
    counted = {"name": "sms_sent", "kind": "COUNTER"}
    assert answer["rows"] == [counted | {"dimensions": {}, "samples": 5, "total": 54, "per_second": 54 / 180}]
    rows = api.get(SENT, {**RANGE, "by": ["provider", "os"]}).json["rows"]
    assert [(row["dimensions"], row["total"]) for row in rows] == [
        ({"provider": "", "os": "iOS"}, 7),
        ({"provider": "a", "os": "iOS"}, 42),
        ({"provider": "b", "os": "Android"}, 5),
    ]


def test_spans_of_time_have_zeros_where_nothing_was_sent(api: Served) -> None:
    """A counter that stops is zero, not gone; the rate is that of the span."""
    rows = api.get(SENT, {**RANGE, "every": "1m", "where": "provider=a"}).json["rows"]
    assert [(row["start"][11:16], row["samples"], row["total"], row["per_second"]) for row in rows] == [
        ("10:00", 2, 12, 0.2),
        ("10:01", 0, 0, 0.0),
        ("10:02", 1, 30, 0.5),
    ]


@pytest.mark.parametrize(
    ("where", "total"),
    [
        (["os=iOS"], 49),
        (["os=iOS", "provider="], 7),
        (["provider=a", "os=iOS"], 42),
        (["provider=nobody"], None),
        (["os=' OR '1'='1"], None),
    ],
)
def test_series_are_chosen_by_their_dimensions(api: Served, where: list[str], total: int | None) -> None:
    """Several must all hold, empty means without it, and where nothing is there are no rows."""
    rows = api.get(SENT, {**RANGE, "where": where}).json["rows"]
    assert [row["total"] for row in rows] == ([] if total is None else [total])


def test_a_timer_has_its_mean_and_quantiles(api: Served) -> None:
    """Of all series together, exactly, as these values are; without samples there are none."""
    [row] = api.get(DELIVERY, RANGE).json["rows"]
    assert row == {
        "name": "sms_delivery",
        "kind": "TIMER",
        "dimensions": {},
        "samples": 8,
        "total": 28,
        "per_second": 8 / 180,
        "mean_ms": 3.5,
        "p50_ms": 4,
        "p90_ms": 6,
        "p99_ms": 6,
    }
    minutes = api.get(DELIVERY, {**RANGE, "every": "1m"}).json["rows"]
    assert [(row["samples"], row["mean_ms"], row["p50_ms"]) for row in minutes] == [
        (4, 3, 2),
        (0, None, None),
        (4, 4, 4),
    ]


def test_the_api_answers_what_the_command_line_does(api: Served, counted: Settings) -> None:
    """The same object for the same question, as JSON; the same rows as CSV; and all of them where none is named."""
    for name, asked, typed in (
        ("sms_sent", {"by": ["os", "provider"]}, ["--by", "os", "--by", "provider"]),
        ("sms_sent", {"by": "os,provider"}, ["--by", "os,provider"]),
        ("sms_delivery", {"every": "1m", "by": "os"}, ["--every", "1m", "--by", "os"]),
        ("sms_sent", {"where": ["os=iOS", "provider="]}, ["--where", "os=iOS", "--where", "provider="]),
    ):
        told = api.get(f"/api/v1/metrics/{name}", {**RANGE, **asked}).json
        assert told == succeed_json(counted, "metrics", name, *TYPED, *typed)
        table = api.get(f"/api/v1/metrics/{name}", {**RANGE, **asked, "format": "csv"}).text
        assert table == succeed(counted, "metrics", name, *TYPED, *typed, "--csv")
        rows = list(csv.DictReader(io.StringIO(table)))
        assert [row["total"] for row in rows] == [str(row["total"]) for row in told["rows"]]
    both = succeed_json(counted, "metrics", *TYPED)
    alone = [api.get(path, RANGE).json["rows"] for path in (DELIVERY, SENT)]
    assert (both["name"], both["rows"]) == (None, [row for rows in alone for row in rows])
    assert "10:02:00Z" in succeed(counted, "metrics", *TYPED, "--every", "1m")


@pytest.mark.parametrize(
    ("asked", "parameter", "message"),
    [
        ({"since": "soon"}, "since", "'soon' is neither a span"),
        ({"since": "now", "until": "1h"}, "since", "is not before until"),
        ({"every": "90s"}, "every", "multiple of the window, which is 60 s"),
        ({"every": "1m", "since": "30d"}, "every", "more than 10,000 spans"),
        ({"by": "colour"}, "by", "'colour' is no dimension of sms_sent; right would be os, provider"),
        ({"by": "a b"}, "by", "pattern"),
        ({"where": "colour=red"}, "where", "'colour' is no dimension of sms_sent"),
        ({"where": "os"}, "where", "pattern"),
        ({"where": ["os=iOS", "os=Android"]}, "where", "os occurs more than once"),
        ({"where": "os=a\0b"}, "where", "pattern"),
        ({"step": "VERIFY_SMS_CODE"}, "step", "no such parameter"),
        ({"every": ["1m", "5m"]}, "every", "more than once"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_would_be_right(
    api: Served, asked: dict[str, str], parameter: str, message: str
) -> None:
    """422 with problem details."""
    reply = api.get(SENT, asked)
    assert reply.status == 422, reply.text
    [error] = reply.json["errors"]
    assert (error["parameter"], message in error["message"]) == (parameter, True), error


def test_a_name_that_there_is_not_is_told_with_those_that_there_are(api: Served, counted: Settings) -> None:
    """404, and exit code 1; what can be no name at all is 422."""
    reply = api.get("/api/v1/metrics/sms_snet")
    assert (reply.status, reply.headers["content-type"]) == (404, "application/problem+json")
    assert reply.json["detail"] == "no counter or timer is called sms_snet; there is sms_delivery, sms_sent"
    typed = run(counted, "metrics", "sms_snet")
    assert (typed.exit_code, reply.json["detail"] in typed.output) == (1, True)
    assert api.get("/api/v1/metrics/1st").json["errors"][0]["parameter"] == "name"
    wrong = run(counted, "metrics", "sms_sent", "--by", "colour")
    assert (wrong.exit_code, "--by: 'colour' is no dimension" in wrong.output) == (2, True)


def test_an_answer_that_would_be_too_long_is_rejected(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how to ask for less."""
    monkeypatch.setattr(metrics, "MOST_ROWS", 2)
    reply = api.get(SENT, {**RANGE, "every": "1m"})
    assert (reply.status, "fewer dimensions" in reply.text) == (422, True), reply.text


def test_what_is_not_kept_any_more_is_not_half_answered(settings: Settings) -> None:
    """There are no rollups to take the place of windows."""
    with closing(Database(settings.timescale_url)) as database:
        migrate(database, settings.window_ms)
        set_retention(database, Retention(windows=30))
        count_metrics(database, [(wall_clock_ms(), MetricSeries.of("sms_sent", "COUNTER", {}), 1)])
    with served(settings) as api:
        reply = api.get(SENT, {"since": "40d", "every": "1h"})
        assert (reply.status, "are kept from" in reply.json["detail"]) == (422, True), reply.text
        assert [row["total"] for row in api.get(SENT, {"since": "20d"}).json["rows"]] == [1]
