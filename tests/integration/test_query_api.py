"""The query API against a real database."""

from __future__ import annotations

import csv
import io
import uuid
from typing import TYPE_CHECKING

import pytest

from funnelwatch.cli.showing import clock
from funnelwatch.settings import Settings
from tests.command import succeed_json
from tests.filling import MINUTE_MS, count
from tests.stack import drop_database, make_database
from tests.web import Served, served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack import Servers

T = 1_794_996_000_000
"""2026-11-18T10:00:00Z."""

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
    count(settings, tallies, closed_through=T + 2 * MINUTE_MS)
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
        ({"step": SMS, "every": "1m", "basis": "cohort"}, ["--step", SMS, "--every", "1m", "--basis", "cohort"]),
        ({"closed": "true"}, ["--closed"]),
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
            assert [row["impressions"] for row in rows] == [str(row["impressions"]) for row in reply.json["rows"]]


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
        ({"by": "colour"}, "by", "'os', 'browser' or 'app_version'"),
        ({"basis": "luck"}, "basis", "'window' or 'cohort'"),
        ({"os": "a\0b"}, "os", "pattern"),
        ({"os": "a" * 201}, "os", "at most 200"),
        ({"colour": "red"}, "colour", "no such parameter"),
        ({"os": ["iOS", "Android"]}, "os", "more than once"),
        ({"format": "xml"}, "format", "'json' or 'csv'"),
        ({"closed": "true", "funnel": "nobodys"}, "closed", "no window of this funnel is complete"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_would_be_right(
    api: Served, asked: dict[str, str], parameter: str, message: str
) -> None:
    """422 with problem details, and the rest of the question does not matter."""
    reply = api.get(RATES, asked)
    assert reply.status == 422, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    [error] = reply.json["errors"]
    assert error["parameter"] == parameter
    assert message in error["message"]
    assert reply.json["detail"] == f"{parameter}: {error['message']}"
