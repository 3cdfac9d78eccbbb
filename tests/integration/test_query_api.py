"""The query API against a real database."""

from __future__ import annotations

import csv
import io
import json
import uuid
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest

from funnelwatch.format import clock
from funnelwatch.query import rates
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.reader import Reader
from tests.command import succeed_json
from tests.filling import MINUTE_MS, count_in
from tests.stack import drop_database, make_database
from tests.web import Served, served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack import Servers

T = 1_794_996_000_000
"""2026-11-18T10:00:00Z."""

ALERT = {
    "alert_id": "a1",
    "sequence": 0,
    "state": "firing",
    "reason": "FIRST_DROP",
    "rule": "ConversionDrop",
    "rule_version": "v",
    "severity": "critical",
    "funnel": "sign_up",
    "step": "VERIFY_SMS_CODE",
    "dimensions": {"os": "iOS"},
    "basis": "window",
    "window_start": T,
    "window_end": T + MINUTE_MS,
    "started_at": T,
    "rate": 0.3,
    "expected_rate": 0.8,
    "expected_low": 0.7,
    "expected_high": 0.9,
    "impressions": 100,
    "successes": 30,
    "score": 9.0,
    "lost_conversions": 50.0,
    "where_dimension": "",
    "where_value": "",
    "where_share": 0.0,
    "labels": {},
    "annotations": {"summary": "It dropped."},
    "steps": ["VERIFY_SMS_CODE", "INPUT_NAME"],
    "silenced_by": "",
}
RESOLVED = ALERT | {"sequence": 1, "state": "resolved", "reason": "RECOVERED", "window_end": T + 2 * MINUTE_MS}

SMS, PHONE = "VERIFY_SMS_CODE", "INPUT_PHONE_NUMBER"
RANGE = {"since": clock(T), "until": clock(T + 3 * MINUTE_MS)}
RATES = "/api/v1/rates"


@pytest.fixture(scope="module")
def counted(stack: Servers) -> Iterator[Settings]:
    """Three minutes of counts from T on, of which two are closed."""
    tallies = {
        (T - MINUTE_MS, SMS, "iOS", "", "1.0"): (1_000, 0, 1_000),
        (T, SMS, "iOS", "", "1.0"): (100, 80, 15, 85, 15),
        (T, SMS, "iOS", "Safari", "1.0"): (10, 5, 5),
        (T + MINUTE_MS, SMS, "Android", "Chrome", "2.0"): (50, 40, 8),
        (T + 2 * MINUTE_MS, SMS, "iOS", "", "2.0"): (40, 30, 10),
        (T, PHONE, "iOS", "", "1.0"): (200, 190, 10),
        (T + 3 * MINUTE_MS, SMS, "iOS", "", "1.0"): (1_000, 0, 1_000),
    }
    name = f"test_{uuid.uuid4().hex}"
    url = make_database(stack.timescale_url, name, timescaledb=stack.timescaledb)
    settings = Settings(timescale_url=url, redis_url=stack.redis_url, redis_prefix=name)
    took = {(T, SMS, "iOS", "", "1.0"): [0, 0, 0, 7], (T + MINUTE_MS, SMS, "Android", "Chrome", "2.0"): [0, 0, 0, 7]}
    with closing(Database(settings.timescale_url)) as database:
        migrate(database, settings.window_ms)
        count_in(database, tallies, closed_through=T + 2 * MINUTE_MS, durations=took)
        AlertStore(database).save("sign_up", T, {}, [ALERT, RESOLVED])
    yield settings
    drop_database(stack.timescale_url, name)


@pytest.fixture(scope="module")
def api(counted: Settings) -> Iterator[Served]:
    """The API over them."""
    with served(counted) as running:
        yield running


def test_the_api_answers_what_the_command_line_does(api: Served, counted: Settings) -> None:
    """The same object for the same question, as JSON; the same rows as CSV, whether by Accept or by format."""
    options = ["--since", RANGE["since"], "--until", RANGE["until"]]
    for asked, typed in (
        ({"step": SMS, "os": "iOS"}, ["--step", SMS, "--os", "iOS"]),
        ({"by": ["os", "app_version"]}, ["--by", "os", "--by", "app-version"]),
        ({"by": "os,app_version", "step": [SMS, PHONE]}, ["--by", "OS,app_version", "--where", f"step={SMS},{PHONE}"]),
        ({"os": ["iOS", "Android"], "browser": ""}, ["--where", "os=iOS,Android", "--where", "browser="]),
        ({"where": ["os=iOS", "browser=(none)"], "by": "step"}, ["--os", "iOS", "--browser", "(none)", "--by", "step"]),
        ({"step": SMS, "every": "1m", "basis": "cohort"}, ["--step", SMS, "--every", "1m", "--basis", "cohort"]),
        ({"closed": "true"}, ["--closed"]),
        ({"step": SMS, "basis": "session", "by": "os"}, ["--step", SMS, "--basis", "session", "--by", "os"]),
    ):
        reply = api.get(RATES, {**RANGE, **asked})
        assert reply.status == 200, reply.text
        assert reply.json == succeed_json(counted, "rate", *options, *typed)
        for table in (
            api.get(RATES, {**RANGE, **asked, "format": "csv"}),
            api.get(RATES, {**RANGE, **asked}, Accept="text/csv, application/json;q=0.5"),
        ):
            assert table.headers["content-type"].startswith("text/csv")
            rows = list(csv.DictReader(io.StringIO(table.text)))
            many = "sessions" if asked.get("basis") == "session" else "impressions"
            assert [row[many] for row in rows] == [str(row[many]) for row in reply.json["rows"]]


@pytest.mark.parametrize(
    ("asked", "parameter", "message"),
    [
        ({"since": "soon"}, "since", "'soon' is neither a span"),
        ({"since": "99999999999999w"}, "since", "neither a span"),
        ({"until": "0001-01-01"}, "until", "1970 to 9998"),
        ({"since": "now", "until": "1h"}, "since", "is not before until"),
        ({"every": "90s"}, "every", "multiple of the window, which is 60 s"),
        ({"every": "0s"}, "every", "multiple of the window"),
        ({"every": f"{'9' * 30}w"}, "every", "longer than any span"),
        ({"every": "1m", "since": "30d"}, "every", "more than 10,000 spans"),
        ({"by": "colour"}, "by", "'colour' is no dimension of sign_up; right would be os, browser, app_version"),
        ({"by": "Colour"}, "by", "match pattern"),
        ({"by": "status"}, "by", "is a field of an event, not a dimension"),
        ({"by": ["a,b,c", "d,e,f"]}, "by", "at most 5"),
        ({"where": "colour=red"}, "where", "'colour' is no dimension of sign_up"),
        ({"where": "ts=1"}, "where", "is a field of an event, not a dimension"),
        ({"os": list(map(str, range(101)))}, "where", "101 values; select at most 100"),
        ({"basis": "luck"}, "basis", "'window', 'cohort' or 'session'"),
        ({"os": "a\0b"}, "os", "pattern"),
        ({"os": "a" * 201}, "os", "at most 200"),
        ({"colour": "red"}, "colour", "nor a dimension of sign_up (os, browser, app_version)"),
        ({"phase": "IMPRESSION"}, "phase", "neither a parameter (format, funnel, since, until, by, where, closed"),
        ({"funnel": ["sign_up", "checkout"]}, "funnel", "more than once"),
        ({"format": "xml"}, "format", "'json' or 'csv'"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_would_be_right(
    api: Served, asked: dict[str, str | list[str]], parameter: str, message: str
) -> None:
    """422 with problem details, and the rest of the question does not matter."""
    reply = api.get(RATES, asked)
    assert reply.status == 422, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    [error] = reply.json["errors"]
    assert error["parameter"] == parameter
    assert message in error["message"]
    assert reply.json["detail"] == f"{parameter}: {error['message']}"


def test_where_no_window_is_complete_asking_for_complete_ones_says_so(api: Served) -> None:
    """404: the question makes sense, and there is nothing yet."""
    reply = api.get(RATES, {"funnel": "nobodys", "closed": "true"})
    assert (reply.status, "no window of this funnel is complete" in reply.json["detail"]) == (404, True)


def test_counts_are_those_of_the_rates(api: Served) -> None:
    """The same rows without what is made of them, as JSON and CSV."""
    asked = {**RANGE, "by": "os", "basis": "cohort"}
    counts = api.get("/api/v1/counts", asked).json
    names = ["step", "os", "impressions", "successes", "failures"]
    assert counts["rows"] == [{name: row[name] for name in names} for row in api.get(RATES, asked).json["rows"]]
    assert api.get("/api/v1/counts", {**asked, "format": "csv"}).text.splitlines()[0] == ",".join(names)


def test_timers_add_up_over_dimensions(api: Served) -> None:
    """Of eight known times six are 0 ms and two 7 ms: each os has half of them, and the quantiles are the same."""
    reply = api.get("/api/v1/timers", {**RANGE, "step": SMS})
    assert reply.json["rows"] == [{"step": SMS, "conversions": 8, "p50_ms": 0, "p90_ms": 7, "p99_ms": 7}]
    table = api.get("/api/v1/timers", {**RANGE, "by": "os", "every": "1m", "format": "csv"})
    assert table.text.splitlines() == [
        "start,step,os,conversions,p50_ms,p90_ms,p99_ms",
        f"2026-11-18T10:01:00Z,{SMS},Android,4,0.0,7.0,7.0",
        f"2026-11-18T10:00:00Z,{SMS},iOS,4,0.0,7.0,7.0",
    ]


@pytest.mark.parametrize(
    ("asked", "sequences"),
    [
        ({}, [1, 0]),
        ({"current": "true"}, [1]),
        ({"state": "firing", "step": "INPUT_NAME", "os": "iOS", "severity": "critical"}, [0]),
        ({"step": PHONE}, []),
        ({"os": "Android"}, []),
        ({"where": "os=iOS"}, [1, 0]),
        ({"where": "provider=x"}, []),
        ({"funnel": "checkout"}, []),
        ({"since": clock(T + 2 * MINUTE_MS)}, [1]),
        ({"until": clock(T + 2 * MINUTE_MS)}, [0]),
        ({"rule": "a' OR '1'='1"}, []),
    ],
)
def test_alerts_are_found_by_what_they_are_about(api: Served, asked: dict[str, str], sequences: list[int]) -> None:
    """Newest first; a step is found among those that an alert has reached, too."""
    assert [alert["sequence"] for alert in api.get("/api/v1/alerts", asked).json["alerts"]] == sequences


def test_alerts_are_limited_and_say_whether_there_are_more(api: Served) -> None:
    """The newest so many; in CSV a map is JSON."""
    reply = api.get("/api/v1/alerts", {"limit": 1})
    assert (len(reply.json["alerts"]), reply.json["more"]) == (1, True)
    assert reply.json["alerts"][0]["window_end"] == "2026-11-18T10:02:00.000Z"
    [row] = csv.DictReader(io.StringIO(api.get("/api/v1/alerts", {"limit": 1, "format": "csv"}).text))
    assert json.loads(row["dimensions"]) == {"os": "iOS"}
    assert api.get("/api/v1/alerts", {"limit": 1_001}).status == 422


def test_alerts_reject_a_parameter_that_is_no_dimension_of_a_declared_funnel(api: Served) -> None:
    """A misspelt parameter must not look like a dimension that no alert is about."""
    reply = api.get("/api/v1/alerts", {"servity": "critical"})
    assert reply.status == 422
    assert "neither a parameter" in reply.text
    assert "os, browser, app_version" in reply.text
    assert "os has two values" in api.get("/api/v1/alerts", {"os": "iOS", "where": "os=Android"}).text


def test_funnels_say_what_there_is_to_ask_for(api: Served) -> None:
    """The declared steps in order, the values of each dimension, and how far it is complete."""
    [funnel] = api.get("/api/v1/funnels").json["funnels"]
    assert funnel == {
        "funnel": "sign_up",
        "declared": True,
        "steps": [PHONE, SMS, "INPUT_NAME", "INPUT_PASSWORD"],
        "dimensions": {
            "os": ["Android", "iOS"],
            "browser": ["", "Chrome", "Safari"],
            "app_version": ["1.0", "2.0"],
        },
        "newest_window": "2026-11-18T10:03:00Z",
        "complete_through": "2026-11-18T10:02:00Z",
    }


def test_an_answer_that_would_be_too_long_is_rejected(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how to ask for less."""
    monkeypatch.setattr(rates, "MOST_ROWS", 1)
    for path in (RATES, "/api/v1/counts", "/api/v1/timers"):
        reply = api.get(path, {**RANGE, "by": "os", "every": "1m"})
        assert (reply.status, "fewer dimensions" in reply.text) == (422, True), reply.text


def test_neither_json_nor_csv_is_not_acceptable(api: Served) -> None:
    """406 with the forms that there are; any is JSON."""
    assert api.get(RATES, RANGE, Accept="text/html").status == 406
    assert api.get(RATES, RANGE, Accept="text/html,*/*;q=0.8").headers["content-type"] == "application/json"


def test_what_is_not_there_or_cannot_be_done_is_a_problem_too(api: Served) -> None:
    """404 and 405 in the same form."""
    reply = api.get("/api/v1/nothing")
    assert (reply.status, reply.headers["content-type"]) == (404, "application/problem+json")
    assert api.get("/api/v1/openapi.json").json["info"]["title"] == "funnelwatch"


def test_the_api_cannot_write_and_ends_what_takes_too_long(counted: Settings) -> None:
    """Its transactions are read only, its role may only read, and a statement is ended by the server."""
    with closing(Reader(counted.timescale_url, application="test", statement_s=2.0)) as reader:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), reader.transaction() as cursor:
            cursor.execute("DELETE FROM window_counts")
        reader.connection().execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), reader.transaction() as cursor:
            cursor.execute("DELETE FROM window_counts")
        with pytest.raises(psycopg.errors.QueryCanceled), reader.transaction() as cursor:
            cursor.execute("SELECT pg_sleep(60)")


def test_the_api_comes_back_with_the_database(counted: Settings) -> None:
    """Connections that the server has ended meanwhile are replaced without a visible error."""
    with served(counted) as api, psycopg.connect(revealed(counted.timescale_url), autocommit=True) as other:
        assert api.get(RATES, RANGE).status == 200
        ended = (
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'funnelwatch board'"
        )
        other.execute(f"{ended} AND datname = current_database()")
        assert api.get(RATES, RANGE).status == 200
