"""Grafana itself, where this machine has it, with the data source and dashboards of deploy/grafana."""

from __future__ import annotations

import subprocess
import uuid
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import pytest

from funnelwatch.deploy.embedded.ports import HOST
from funnelwatch.schemas.redaction import revealed
from tests.filling import MINUTE_MS
from tests.grafana import ALL, NAMES, View, ask, dashboard, targets
from tests.grafana_server import NEEDED, Grafana, RejectedError, grafana
from tests.integration.test_grafana import CLOSED, FUNNEL, NOW_IN_THEM, RANGES, fill
from tests.integration.test_views import DAY_MS, T
from tests.programs import found, needs, program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.sinks.timescale.database import Database, Row

pytestmark = NEEDED

PASSWORD = "it's $HOME, $$ and \"#;="
NOWHERE = "http://127.0.0.1:9"

GAUGES = {
    'funnelwatch_lag_records{partition="0"}': 7,
    "funnelwatch_watermark_age_seconds": 30,
    "funnelwatch_standstill_seconds": 4,
}
COUNTERS = {
    "funnelwatch_events_accepted_total": 8,
    "funnelwatch_events_duplicate_total": 2,
    "funnelwatch_events_late_total": 1,
    'funnelwatch_events_rejected_total{reason="schema"}': 3,
    'funnelwatch_retries_total{what="flush"}': 5,
    'funnelwatch_flush_seconds_bucket{le="0.1"}': 1,
    'funnelwatch_flush_seconds_bucket{le="+Inf"}': 1,
}
"""What workers have said: as it stood, and as it rose each second."""

WORKERS = {
    ("Lag", "partition 0"): 7,
    ("Watermark", "watermark age"): 30,
    ("Watermark", "standstill"): 4,
    ("Throughput", "counted"): 8,
    ("Throughput", "duplicates"): 2,
    ("Throughput", "late"): 1,
    ("Dead letters", "schema"): 3,
    ("Retries", "flush"): 5,
    ("Flush", "p95"): 0.095,
}
"""Panel and line to what is to be seen of it."""


@pytest.fixture(scope="module")
def filled(plain: Database) -> Database:
    """Plain PostgreSQL, filled."""
    fill(plain)
    return plain


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that has what workers said, where this machine has the program."""
    promtool = found("promtool")
    if promtool is None or found("prometheus") is None:
        yield NOWHERE
        return
    folder = tmp_path_factory.mktemp("prometheus")
    said = [
        f"{name} {value} {T // 1000 + second}\n"
        for second in range(0, 15 * 60, 15)
        for name, value in (GAUGES | {name: second * rise for name, rise in COUNTERS.items()}).items()
    ]
    (folder / "metrics").write_text("".join(said) + "# EOF\n")
    write = [promtool, "tsdb", "create-blocks-from", "openmetrics", "metrics", "data"]
    subprocess.run(write, cwd=folder, check=True, capture_output=True)
    (folder / "prometheus.yml").write_text("{}")
    options = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--storage.tsdb.retention.time=100y"]
    with program("prometheus", folder, "/-/ready", *options, f"--web.listen-address={HOST}:{{port}}") as url:
        yield url


@pytest.fixture(scope="module")
def served(filled: Database, prometheus: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grafana]:
    """Grafana on that database, by a login of its own that may only read, as docs/running.md makes it."""
    name = f"grafana_{uuid.uuid4().hex}"
    statements = [
        f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}' IN ROLE funnelwatch_reader",
        f"ALTER ROLE {name} SET default_transaction_read_only = on",
        f"ALTER ROLE {name} SET statement_timeout = '30s'",
    ]
    do(filled, *statements)
    try:
        with grafana(tmp_path_factory.mktemp("grafana"), revealed(filled.url), (name, PASSWORD), prometheus) as running:
            yield running
    finally:
        do(filled, f"DROP ROLE {name}")


def do(database: Database, *statements: str) -> None:
    """Run statements."""
    with database.transaction() as cursor:
        for statement in statements:
            cursor.execute(cast("Any", statement))


@pytest.fixture(scope="module")
def extended_source(served: Grafana, extended: Database) -> str:
    """The uid of one more data source: TimescaleDB, filled with the same."""
    fill(extended)
    address = urlsplit(revealed(extended.url))
    made = {
        "uid": "timescaledb",
        "name": "timescaledb",
        "type": "grafana-postgresql-datasource",
        "access": "proxy",
        "url": f"{address.hostname}:{address.port}",
        "user": address.username,
        "secureJsonData": {"password": address.password or ""},
        "jsonData": {"database": address.path.removeprefix("/"), "sslmode": "disable", "timescaledb": True},
    }
    reply = served.ask("POST", "/api/datasources", made)
    assert reply.status == 200, reply.text
    return "timescaledb"


def asked_in(document: dict[str, Any]) -> list[object]:
    """Everything that a dashboard asks, and where."""
    variables = [(variable["name"], variable["query"]) for variable in document["templating"]["list"]]
    panels = [(panel["title"], panel["gridPos"], panel["targets"]) for panel in document["panels"]]
    return [document["title"], document["tags"], variables, panels]


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_is_provisioned_as_it_is_checked_in(served: Grafana, name: str) -> None:
    """Under its uid and in its folder, asking the same after Grafana has read it; nobody can save over it."""
    written = dashboard(name)
    place = f"/api/dashboards/uid/{written['uid']}"
    reply = served.ask("GET", place)
    assert reply.status == 200, reply.text
    kept, about = reply.json["dashboard"], reply.json["meta"]
    assert (about["folderTitle"], about["provisioned"]) == ("funnelwatch", True)
    assert asked_in(kept) == asked_in(written)
    theirs = {"dashboard": {**kept, "title": "Theirs"}, "folderUid": about["folderUid"], "overwrite": True}
    assert served.ask("POST", "/api/dashboards/db", theirs).status in {400, 403}
    assert served.ask("GET", place).json["dashboard"]["title"] == written["title"]


def test_provisioning_has_no_complaint(served: Grafana) -> None:
    """Grafana has logged no error about data sources or dashboards."""
    lines = served.log.read_text().splitlines()
    assert [line for line in lines if "logger=provisioning" in line]
    assert [line for line in lines if "logger=provisioning" in line and "level=error" in line] == []


def test_the_data_source_reaches_the_database(served: Grafana) -> None:
    """By address, login and database out of the environment; the health check says so."""
    reply = served.ask("GET", "/api/datasources/uid/funnelwatch/health")
    assert (reply.status, reply.json["status"]) == (200, "OK"), reply.text
    source = served.ask("GET", "/api/datasources/uid/funnelwatch").json
    assert (source["readOnly"], source["isDefault"]) == (True, True)
    assert PASSWORD not in str(source)


def choose(served: Grafana, view: View, document: dict[str, Any], wanted: dict[str, list[str]], source: str) -> None:
    """Fill the variables of a dashboard, asking Grafana."""

    def options(sql: str) -> list[str]:
        target = {"datasource": kind(document), "format": "table", "rawSql": sql}
        return [value for column in served.query(view, target, source=source).columns for value in column]

    view.fill_in(options, document, wanted)


def kind(document: dict[str, Any]) -> Any:
    """The data source of a dashboard's variables."""
    return document["templating"]["list"][0]["datasource"]


@pytest.fixture(params=["postgresql", "timescaledb"])
def uid(request: pytest.FixtureRequest) -> str:
    """Of the data source of each database."""
    return "funnelwatch" if request.param == "postgresql" else str(request.getfixturevalue("extended_source"))


@pytest.mark.parametrize("level", RANGES)
@pytest.mark.parametrize("name", NAMES)
def test_every_panel_shows_what_the_database_says(
    served: Grafana, filled: Database, uid: str, name: str, level: str
) -> None:
    """Grafana's own macros make the SQL that the other tests run, and its frames have the numbers of its rows."""
    document = dashboard(name)
    wanted = {} if name == "pipeline" else {"funnel": [FUNNEL]}
    wanted |= {"step": ["pay"]} if name == "step" else {}
    view, other = View(*RANGES[level][:2]), View(*RANGES[level][:2])
    choose(served, view, document, wanted, uid)
    other.choose(filled, document, wanted)
    assert (view.chosen, view.options) == (other.chosen, other.options)
    for place, one, target in targets(view, document):
        frame = served.query(one, target, source=uid)
        assert frame.sent == one.expand(target["rawSql"]), place
        rows = ask(filled, frame.sent)
        assert rows, place
        if target["format"] == "table":
            assert [known(row) for row in frame.rows()] == [known(as_shown(row)) for row in rows], place
        else:
            assert frame.points() == pytest.approx(lines(rows)), place


def as_shown(row: Row) -> dict[str, Any]:
    """A row of the database, with times and numbers as Grafana's JSON has them."""
    return {column: shown(value) for column, value in row.items()}


def shown(value: Any) -> Any:
    """One value."""
    if isinstance(value, datetime):
        return value.timestamp() * 1000
    return float(value) if isinstance(value, Decimal) else value


def known(row: dict[str, Any]) -> dict[str, Any]:
    """What of a row does not tell of the moment of asking."""
    return {column: value for column, value in row.items() if column not in NOW_IN_THEM}


def lines(rows: list[Row]) -> dict[tuple[str, int], float]:
    """Rows of a query for lines as Grafana is to understand them: a column is a line, or a line for each metric."""
    return {
        (str(row.get("metric", column)), int(row["time"].timestamp() * 1000)): float(value)
        for row in rows
        for column, value in row.items()
        if column not in {"time", "metric"} and value is not None
    }


@pytest.mark.parametrize("name", ["funnel", "step"])
def test_annotations_have_what_grafana_looks_for(served: Grafana, name: str) -> None:
    """Begin and end as times, a text, and tags in one string."""
    document = dashboard(name)
    view = View(*RANGES["windows"][:2])
    choose(served, view, document, {"funnel": [FUNNEL], "step": ["pay"]}, "funnelwatch")
    [target] = [target for place, _, target in targets(view, document) if place == "Alerts (annotation)"]
    assert served.query(view, target).types == {"time": "time", "timeend": "time", "text": "string", "tags": "string"}


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_is_counted_panels_are_empty_and_not_wrong(served: Grafana, name: str) -> None:
    """A first look before the first window: lists of values are empty, and no query is rejected."""
    document = dashboard(name)
    view = View(T - 2000 * DAY_MS, T - 2000 * DAY_MS + 1)
    choose(served, view, document, {}, "funnelwatch")
    view.chosen |= {"funnel": [""]} if "funnel" in view.chosen else {}
    assert [value for key in ("step", "os") for value in view.chosen.get(key, []) if value not in {"", ALL}] == []
    for _, one, target in targets(view, document):
        served.query(one, target)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM window_counts",
        "SET default_transaction_read_only = off; DELETE FROM window_counts",
        "SET default_transaction_read_only = off; CREATE TABLE theirs (id int)",
        "SET ROLE postgres",
    ],
)
def test_whoever_may_edit_a_panel_can_write_nothing(served: Grafana, filled: Database, sql: str) -> None:
    """The login may only read, whatever is asked by way of the data source."""
    before = ask(filled, "SELECT sum(impressions) AS n FROM window_counts")
    target = {"datasource": kind(dashboard("funnel")), "format": "table", "rawSql": sql}
    with pytest.raises(RejectedError, match=r"read-only|permission denied"):
        served.query(View(T, CLOSED), target)
    assert ask(filled, "SELECT sum(impressions) AS n FROM window_counts") == before


@pytest.mark.parametrize("path", ["/login", "/d/funnelwatch-funnel", "/api/dashboards/uid/funnelwatch-funnel"])
def test_a_frame_may_show_it_only_where_grafana_ini_says(served: Grafana, path: str) -> None:
    """No X-Frame-Options, which would forbid all; the policy names who may."""
    headers = {name.lower(): value for name, value in served.ask("GET", path).headers.items()}
    assert "x-frame-options" not in headers
    policy = [part.strip() for part in headers["content-security-policy"].split(";")]
    assert "frame-ancestors 'self'" in policy
    assert not [part for part in policy if "$" in part], "something of the template is left"


def test_nobody_reads_without_a_login(served: Grafana) -> None:
    """And nobody makes one for himself."""
    assert served.ask("GET", "/api/dashboards/uid/funnelwatch-funnel", login=None).status == 401
    assert served.ask("POST", "/api/user/signup", {"email": "one@example.org"}, login=None).status == 401


@needs("prometheus", "promtool")
def test_prometheus_answers_with_the_workers_metrics(served: Grafana) -> None:
    """The lower half of *Pipeline*: each line has its name, and the value that was written."""
    shown = {}
    for panel in dashboard("pipeline")["panels"]:
        for target in panel["targets"]:
            if "expr" in target:
                for frame in served.frames(T + 5 * MINUTE_MS, T + 10 * MINUTE_MS, target):
                    name = frame["schema"]["fields"][1]["config"]["displayNameFromDS"]
                    shown[panel["title"], name] = set(frame["data"]["values"][1])
    assert {place: values.pop() for place, values in shown.items() if len(values) == 1} == pytest.approx(WORKERS)
