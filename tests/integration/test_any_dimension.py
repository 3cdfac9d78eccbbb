"""Command line, query API and query functions count by any dimension as a group-by in Python does."""

from __future__ import annotations

import csv
import io
import json
import random
import uuid
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.format import clock
from funnelwatch.query.parameters import UnknownDimensionError
from funnelwatch.query.rate_query import RateQuery
from funnelwatch.query.rates import query_rates, query_timers
from funnelwatch.schemas.funnels import dimensions_of, load_funnels
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.rates import Known, RateStore, Scope
from tests.any_dimension import Counted, grouped, insert_counts
from tests.command import run, succeed, succeed_json
from tests.filling import MINUTE_MS
from tests.stack import drop_database, make_database
from tests.web import Served, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stack import Servers

T = 1_794_996_000_000
"""2026-11-18T10:00:00Z."""

RANGE_MS = 20 * MINUTE_MS
SINCE, UNTIL = clock(T), clock(T + RANGE_MS)
RANGE = {"since": SINCE, "until": UNTIL}
STEPS = ("CART", "SHIPPING", "PAYMENT")
DECLARED = ("country", "plan", "device")
STORED = ("rate", "since")
"""Dimensions of an older declaration, called like a field of a row and like a parameter."""
VALUES = {
    "country": ("", "DE", "AT", "Côte d'Ivoire", "=1+1"),
    "plan": ("", "free", "paid"),
    "device": ("iPhone14,2", "Pixel 9", "a\\b", "(other)"),
    "rate": ("", "0.5", "(none)"),
    "since": ("", "1h"),
}
FUNNEL = "checkout"
COUNTS = ("impressions", "successes", "failures")


def some_rows() -> list[Counted]:
    """Counts of three steps and random combinations of five dimensions, also of some minutes around the range."""
    chance = random.Random(3)
    rows = []
    for minute in range(-2, 25):
        keys = {(chance.choice(STEPS), *(chance.choice(VALUES[name]) for name in VALUES)) for _ in range(12)}
        for step, *values in sorted(keys):
            shown, took = chance.randrange(1, 90), [chance.randrange(8) for _ in range(chance.randrange(4))]
            made = chance.randrange(len(took), shown + len(took) + 1)
            dimensions = dict(zip(VALUES, values, strict=True))
            rows.append(Counted(T + minute * MINUTE_MS, step, dimensions, shown, made, shown // 3, made // 2, 1, took))
    return rows


ROWS = some_rows()
WITHIN = [row for row in ROWS if T <= row.window_ms < T + RANGE_MS]


@pytest.fixture(scope="module")
def funnels_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Declares the funnel with three of its dimensions."""
    path = tmp_path_factory.mktemp("declared") / "funnels.yml"
    path.write_text(json.dumps({"funnels": {FUNNEL: {"steps": list(STEPS), "dimensions": list(DECLARED)}}}))
    return path


@pytest.fixture(scope="module")
def counted(stack: Servers, funnels_path: Path) -> Iterator[Settings]:
    """The rows in a database of the embedded stack."""
    name = f"test_{uuid.uuid4().hex}"
    url = make_database(stack.timescale_url, name, timescaledb=stack.timescaledb)
    settings = Settings(timescale_url=url, redis_url=stack.redis_url, redis_prefix=name, funnels_path=funnels_path)
    with closing(Database(url)) as database:
        migrate(database, settings.window_ms)
        insert_counts(database, FUNNEL, ROWS, T + RANGE_MS)
    yield settings
    drop_database(stack.timescale_url, name)


@pytest.fixture(scope="module")
def api(counted: Settings) -> Iterator[Served]:
    """The API over them."""
    with served(counted) as running:
        yield running


def some_query(seed: int) -> tuple[list[str], dict[str, list[str]], bool, bool]:
    """Dimensions to group by, filters, whether spans of time are told apart, and whether the basis is the cohort."""
    chance = random.Random(seed)
    by = chance.sample(list(VALUES), chance.randrange(6))
    filters = {
        name: chance.sample([*VALUES[name], "(none)", "nobody's"], chance.randrange(1, 4))
        for name in chance.sample(list(VALUES), chance.randrange(3))
    }
    if chance.random() < 0.3:
        filters["step"] = chance.sample(STEPS, chance.randrange(1, 3))
    return by, {name: sorted(set(values)) for name, values in filters.items()}, chance.random() < 0.4, seed % 3 == 0


def field(name: str) -> str:
    """The field of a dimension in rows."""
    return "dimensions.rate" if name == "rate" else name


def by_hand(
    by: list[str], filters: dict[str, list[str]], every: bool, cohort: bool
) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """Impressions, successes and failures by step, dimensions and start."""
    names = ("impressions", "cohort_successes", "cohort_failures") if cohort else COUNTS
    groups = grouped(WITHIN, by, filters, 5 * MINUTE_MS if every else None)
    sums = {key: tuple(sum(getattr(row, name) for row in rows) for name in names) for key, rows in groups.items()}
    return {(*key[:-1], clock(int(key[-1]))) if every else key: found for key, found in sums.items()}


def of_rows(rows: list[dict[str, Any]], by: list[str], every: bool) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """The same of rows that are not zeros."""
    names = ["step", *map(field, by), *(["start"] if every else [])]
    keys = [tuple(row[name] for name in names) for row in rows]
    assert len(set(keys)) == len(keys)
    counts = [tuple(row[name] for name in COUNTS) for row in rows]
    return {key: found for key, found in zip(keys, counts, strict=True) if any(found)}


def typed(by: list[str], filters: dict[str, list[str]], every: bool, cohort: bool) -> list[str]:
    """The options of the command line; several values in one option, a comma within a value escaped."""
    options = ["--funnel", FUNNEL, "--since", SINCE, "--until", UNTIL]
    options += ["--by", ",".join(by)] if by else []
    for name, values in filters.items():
        options += ["--where", f"{name}=" + ",".join(value.replace(",", "\\,") for value in values)]
    return [*options, *(["--every", "5m"] if every else []), *(["--basis", "cohort"] if cohort else [])]


def asked(
    by: list[str], filters: dict[str, list[str]], every: bool, cohort: bool, *, basis: bool = True
) -> list[tuple[str, str]]:
    """The parameters of the API; a dimension that is called like another parameter by where."""
    parameters = [("funnel", FUNNEL), ("since", SINCE), ("until", UNTIL), *(("by", name) for name in by)]
    for name, values in filters.items():
        parameters += [("where", f"since={value}") if name == "since" else (name, value) for value in values]
    parameters += [("every", "5m")] if every else []
    return [*parameters, *([("basis", "cohort")] if cohort and basis else [])]


@pytest.mark.parametrize("seed", range(24))
def test_command_line_and_api_count_as_a_group_by_in_python_does(api: Served, counted: Settings, seed: int) -> None:
    """By any of five dimensions and with any filters: the same numbers, as JSON and as CSV."""
    by, filters, every, _ = query = some_query(seed)
    wanted = by_hand(*query)
    reply = api.get("/api/v1/rates", asked(*query))
    assert reply.status == 200, reply.text
    assert of_rows(reply.json["rows"], by, every) == wanted
    assert {name: sorted(values) for name, values in reply.json["filters"].items()} == filters
    if not wanted:
        assert run(counted, "rate", *typed(*query)).exit_code == 1
        return
    told = succeed_json(counted, "rate", *typed(*query))
    assert told["rows"] == reply.json["rows"]
    assert {name: sorted(values) for name, values in told["filters"].items()} == filters
    table = api.get("/api/v1/counts", [*asked(*query), ("format", "csv")]).text
    rows = list(csv.DictReader(io.StringIO(table)))
    assert list(rows[0]) == [*(["start"] if every else []), "step", *map(field, by), *COUNTS]
    assert [[row[name] for name in COUNTS] for row in rows] == [
        [str(row[name]) for name in COUNTS] for row in told["rows"]
    ]
    table = api.get("/api/v1/rates", [*asked(*query), ("format", "csv")]).text
    assert succeed(counted, "rate", *typed(*query), "--csv") == table


@pytest.mark.parametrize("seed", range(0, 24, 3))
def test_times_to_convert_are_grouped_by_any_dimension(api: Served, seed: int) -> None:
    """The quantiles of durations that have a slot of their own are exact."""
    by, filters, every, _ = query = some_query(seed)
    groups = grouped(WITHIN, by, filters, 5 * MINUTE_MS if every else None)
    took = {
        (*key[:-1], clock(int(key[-1]))) if every else key: sorted(value for row in rows for value in row.durations)
        for key, rows in groups.items()
    }
    rows = api.get("/api/v1/timers", asked(*query, basis=False)).json["rows"]
    names = ["step", *map(field, by), *(["start"] if every else [])]
    found = {tuple(row[name] for name in names): (row["conversions"], row["p50_ms"]) for row in rows}
    assert found == {key: (len(all_), all_[(len(all_) - 1) // 2]) for key, all_ in took.items() if all_}


@pytest.mark.parametrize("seed", range(24))
def test_both_databases_count_as_a_group_by_in_python_does(
    either_counted: Database, funnels_path: Path, seed: int
) -> None:
    """Plain PostgreSQL and TimescaleDB, by the functions that command line and API call."""
    by, filters, every, cohort = query = some_query(seed)
    settings = Settings(funnels_path=funnels_path)
    basis, length = "cohort" if cohort else "window", 5 * MINUTE_MS if every else None
    question = RateQuery(Scope(FUNNEL, filters), T, T + RANGE_MS, T + RANGE_MS, tuple(by), basis, length)
    assert of_rows(query_rates(either_counted, settings, question).rows(), by, every) == by_hand(*query)
    _, times = query_timers(either_counted, settings, question)
    groups = grouped(WITHIN, by, filters, length)
    assert sum(one.conversions for one in times) == sum(len(row.durations) for rows in groups.values() for row in rows)


@contextmanager
def shared_session(database: Database) -> Iterator[None]:
    """Undoes the restrictions of the API: in WebAssembly its connections share one session with the test's."""
    with database.outside_transaction() as cursor:
        before = cursor.execute("SELECT current_setting('search_path') AS path").fetchall()[0]
    yield
    with database.outside_transaction() as cursor:
        for restricted in ("ROLE", "default_transaction_read_only", "statement_timeout"):
            cursor.execute(f"RESET {restricted}")
        cursor.execute("SELECT set_config('search_path', %(path)s, false)", before)


def test_command_line_and_api_answer_alike_on_both_databases(either_counted: Database, funnels_path: Path) -> None:
    """The same numbers as the group-by, by all five dimensions."""
    settings = Settings(timescale_url=either_counted.url, funnels_path=funnels_path)
    query = ([*VALUES], {"plan": ["", "paid"]}, False, False)
    told = succeed_json(settings, "rate", *typed(*query))
    assert of_rows(told["rows"], query[0], every=False) == by_hand(*query)
    with shared_session(either_counted), served(settings) as api:
        reply = api.get("/api/v1/rates", asked(*query))
    assert (reply.status, reply.json["rows"]) == (200, told["rows"])


@pytest.fixture(scope="module")
def filled() -> set[int]:
    """The databases that have the rows."""
    return set()


@pytest.fixture
def either_counted(either: Database, filled: set[int]) -> Database:
    """Plain PostgreSQL and TimescaleDB with the rows."""
    if id(either) not in filled:
        insert_counts(either, FUNNEL, ROWS, T + RANGE_MS)
        filled.add(id(either))
    return either


def test_an_unknown_dimension_is_named_with_those_that_there_are(api: Served, counted: Settings) -> None:
    """Declared ones first, then those of stored series; the default dimensions are none of this funnel."""
    right = "country, plan, device, rate, since"
    for option in (["--by", "country,os"], ["--where", "os=iOS"], ["--os", "iOS"]):
        result = run(counted, "rate", "--funnel", FUNNEL, *option)
        parameter = option[0] if option[0] == "--by" else "--where"
        assert result.exit_code == 2
        assert f"{parameter}: 'os' is no dimension of checkout; right would be {right}" in result.stderr
    for path in ("rates", "counts", "timers"):
        reply = api.get(f"/api/v1/{path}", {"funnel": FUNNEL, "os": "iOS"})
        assert (reply.status, reply.json["errors"][0]["parameter"]) == (422, "os")
        assert f"nor a dimension of checkout ({right})" in reply.json["detail"]
        reply = api.get(f"/api/v1/{path}", {"funnel": FUNNEL, "by": "plan,os"})
        assert f"by: 'os' is no dimension of checkout; right would be {right}" in reply.json["detail"]


def test_funnels_list_dimensions_with_their_values(api: Served) -> None:
    """Declared ones first; a value that series lack is empty; in CSV the map is JSON."""
    [funnel] = api.get("/api/v1/funnels").json["funnels"]
    assert list(funnel["dimensions"]) == [*DECLARED, *STORED]
    assert funnel["dimensions"] == {name: sorted(values) for name, values in VALUES.items()}
    [row] = csv.DictReader(io.StringIO(api.get("/api/v1/funnels", {"format": "csv"}).text))
    assert json.loads(row["dimensions"]) == funnel["dimensions"]


def test_stored_dimensions_stay_known_after_the_declaration_drops_them(counted: Settings) -> None:
    """The funnels file decides the order, the stored series what there is beside."""
    with closing(Database(revealed(counted.timescale_url))) as database:
        stored = RateStore(database).stored_dimensions(FUNNEL)
        assert RateStore(database).stored_dimensions("nobody's") == []
    assert stored == sorted(VALUES)
    assert dimensions_of(FUNNEL, load_funnels(counted.funnels_path), stored) == (*DECLARED, *STORED)


def test_the_table_has_a_column_for_each_dimension(counted: Settings) -> None:
    """In the order of --by; several values are named with or, no value is (none)."""
    table = succeed(
        counted, "rate", "--funnel", FUNNEL, "--since", SINCE, "--until", UNTIL, "--by", "plan", "--by", "country",
        "--where", "country=DE,(none)", "--where", "device=iPhone14\\,2",
    )  # fmt: skip
    assert f"{FUNNEL}, country DE or (none), device iPhone14,2, by window" in table
    heading = next(line for line in table.splitlines() if line.startswith("Step"))
    assert heading.split()[:3] == ["Step", "Plan", "Country"]


def test_a_filter_that_selects_nothing_names_the_values_that_there_are(counted: Settings) -> None:
    """Of every dimension of the funnel."""
    options = ("--funnel", FUNNEL, "--since", SINCE, "--until", UNTIL, "--where", "country=FR,IT")
    result = run(counted, "rate", *options)
    assert result.exit_code == 1
    assert "no counts for funnel checkout, country FR or IT from" in result.stderr
    assert "; plan (none), free, paid" in result.stderr


def test_a_query_with_an_unknown_dimension_is_rejected_on_both_databases(
    either_counted: Database, funnels_path: Path
) -> None:
    """By the function that command line and API call."""
    question = RateQuery(Scope(FUNNEL), T, T + RANGE_MS, T + RANGE_MS, ("os",))
    with pytest.raises(UnknownDimensionError, match="right would be country, plan, device, rate, since"):
        query_rates(either_counted, Settings(funnels_path=funnels_path), question)


def test_values_are_those_of_the_day_up_to_the_newest_window(either: Database, funnel: str) -> None:
    """Each funnel has a day of its own; a dimension of older series has no value in it."""
    day = 24 * 60 * MINUTE_MS
    rows = [
        Counted(T - day, "OLD", {"country": "FR", "old": "x"}, 1),
        Counted(T - day + 60 * MINUTE_MS, "B", {"country": "DE", "plan": "free"}, 1),
        Counted(T, "A", {"country": "AT"}, 1),
    ]
    insert_counts(either, funnel, rows)
    insert_counts(either, f"{funnel}_older", [Counted(T - 9 * day, "C", {"country": "IT"}, 1)], T)
    known = {one.funnel: one for one in RateStore(either).known()}
    assert known[funnel] == Known(
        funnel, ("A", "B"), {"country": ("AT", "DE"), "old": ("",), "plan": ("", "free")}, T, None
    )
    assert known[f"{funnel}_older"] == Known(f"{funnel}_older", ("C",), {"country": ("IT",)}, T - 9 * day, T)
