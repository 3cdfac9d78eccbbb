"""Parameters of line protocol's paths, read as InfluxDB 1 and 2 read them."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from funnelwatch.producers.collector.keys import hash_of
from funnelwatch.schemas.clock import wall_clock_ms
from tests.collector_in_process import Asked, app_of

PATHS = ["/write", "/api/v2/write"]
UNITS_NS = {
    "ns": 1,
    "n": 1,
    "us": 1_000,
    "u": 1_000,
    "\u00b5": 1_000,
    "\u03bc": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
HOUR_NS = UNITS_NS["h"]


def line(ts: int) -> bytes:
    """An event at a time."""
    return f'funnel_event,step=INPUT_NAME,phase=IMPRESSION,os=iOS sign_up_session_id="s-1" {ts}'.encode()


def taken_ts(query: str, ts: int, path: str) -> int:
    """The time of the event that is taken, ms."""
    app = app_of()
    asked = Asked(app, f"{path}?{query}", line(ts))
    assert asked.status == 204, asked.text
    (event,) = app.state.delivery.taken
    return int(event["ts"])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("unit", UNITS_NS)
def test_a_time_is_in_the_unit_that_precision_names(unit: str, path: str) -> None:
    """Those of both versions, on both paths."""
    at = wall_clock_ms() * 1_000_000 // HOUR_NS * HOUR_NS
    assert taken_ts(f"precision={quote(unit)}", at // UNITS_NS[unit], path) == at // 1_000_000


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "query",
    [
        "",
        "db=telegraf&precision=&rp=",
        "precision",
        "precision=&precision=s",
        "db=&rp=&consistency=&u=&p=&org=&bucket=&orgID=&bucketID=&key=",
        "DB=a&Precision=s&PRECISION=h",
        "db=a&db=b&rp=c&rp=d&consistency=any",
    ],
)
def test_an_empty_precision_is_nanoseconds(query: str, path: str) -> None:
    """Of several the first counts; names have lower case; the other parameters may be empty."""
    now = wall_clock_ms()
    assert taken_ts(query, now * 1_000_000, path) == now


@pytest.mark.parametrize("path", PATHS)
def test_the_first_of_several_precisions_counts(path: str) -> None:
    """As in InfluxDB."""
    now_s = wall_clock_ms() // 1_000
    assert taken_ts("precision=s&precision=ns", now_s, path) == now_s * 1_000


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("precision", ["NS", "Ms", "S", "d", "w", "1s", "+", "ns,ns", "rfc3339", "x" * 5_000])
def test_another_precision_is_rejected(precision: str, path: str) -> None:
    """With those that there are; InfluxDB takes no upper case either."""
    asked = Asked(app_of(), f"{path}?precision={quote(precision)}", line(1))
    assert asked.status == 400
    assert "is not one of ns, n, us, u," in asked.text
    assert len(asked.text) < 500


@pytest.mark.parametrize(
    ("query", "status"),
    [("key=one", 204), ("key=&p=one", 204), ("u=any&p=one&p=two", 204), ("p=", 401), ("key=two&key=one", 401)],
)
def test_an_empty_key_is_none(query: str, status: int) -> None:
    """The next place that names one counts."""
    app = app_of(collector_keys=f"one:{hash_of('one')}")
    assert Asked(app, f"/write?{query}", line(wall_clock_ms() * 1_000_000)).status == status
