"""Command line, query API and query functions count by any dimension as a group-by in Python does."""

from __future__ import annotations

import csv
import io
import json
import random
import uuid
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.format import clock
from funnelwatch.query.funnel import query_funnel
from funnelwatch.query.parameters import UnknownDimensionError
from funnelwatch.query.rate_query import RateQuery
from funnelwatch.query.rates import query_rates, query_timers
from funnelwatch.schemas.funnels import Funnel, dimensions_of, load_funnels
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.declared import declare
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

    from funnelwatch.sinks.timescale.rates import Basis
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
OF_SESSIONS = ("sessions", "session_successes", "open")
MATURE_THROUGH = T + RANGE_MS - 8 * MINUTE_MS
"""All windows of the range are closed, and the session window is 8 minutes."""


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
            events, sessions = (shown, made, shown // 3, made // 2, 1), chance.randrange(shown + 1)
            reached = chance.randrange(sessions + 1)
            counts = (*events, sessions, chance.randrange(sessions + 1), reached, chance.randrange(reached + 1))
            rows.append(Counted(T + minute * MINUTE_MS, step, dimensions, *counts, took))
    return rows


ROWS = some_rows()
WITHIN = [row for row in ROWS if T <= row.window_ms < T + RANGE_MS]


@pytest.fixture(scope="module")
def funnels_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Declares the funnel with three of its dimensions."""
    path = tmp_path_factory.mktemp("declared") / "funnels.yml"
    path.write_text(json.dumps({"funnels": {FUNNEL: {"steps": list(STEPS), "dimensions": list(DECLARED)}}}))
    return path


def fill(database: Database) -> None:
    """Declare the funnel as a worker does, and count the rows."""
    declare(database, {FUNNEL: Funnel(STEPS, DECLARED, session_window_ms=8 * MINUTE_MS)})
    insert_counts(database, FUNNEL, ROWS, T + RANGE_MS)


@pytest.fixture(scope="module")
def counted(stack: Servers, funnels_path: Path) -> Iterator[Settings]:
    """The rows in a database of the embedded stack."""
    name = f"test_{uuid.uuid4().hex}"
    url = make_database(stack.timescale_url, name, timescaledb=stack.timescaledb)
    settings = Settings(timescale_url=url, redis_url=stack.redis_url, redis_prefix=name, funnels_path=funnels_path)
    with closing(Database(url)) as database:
        migrate(database, settings.window_ms)
        fill(database)
    yield settings
    drop_database(stack.timescale_url, name)


@pytest.fixture(scope="module")
def api(counted: Settings) -> Iterator[Served]:
    """The API over them."""
    with served(counted) as running:
        yield running


def some_query(seed: int) -> tuple[list[str], dict[str, list[str]], bool, Basis]:
    """Dimensions to group by, filters, whether spans of time are told apart, and the basis."""
    chance = random.Random(seed)
    by = chance.sample(list(VALUES), chance.randrange(6))
    filters = {
        name: chance.sample([*VALUES[name], "(none)", "nobody's"], chance.randrange(1, 4))
        for name in chance.sample(list(VALUES), chance.randrange(3))
    }
    if chance.random() < 0.3:
        filters["step"] = chance.sample(STEPS, chance.randrange(1, 3))
    return by, {name: sorted(set(values)) for name, values in filters.items()}, chance.random() < 0.4, BASES[seed % 3]


BASES: tuple[Basis, ...] = ("cohort", "window", "session")


def field(name: str) -> str:
    """The field of a dimension in rows."""
    return "dimensions.rate" if name == "rate" else name


def by_hand(
    by: list[str], filters: dict[str, list[str]], every: bool, basis: Basis
) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """Impressions, successes and failures by step, dimensions and start; or sessions, successes and open ones."""
    groups = grouped(WITHIN, by, filters, 5 * MINUTE_MS if every else None)
    names = {"cohort": ("impressions", "cohort_successes", "cohort_failures"), "session": OF_SESSIONS[:2]}
    sums = {
        key: tuple(sum(getattr(row, name) for row in rows) for name in names.get(basis, COUNTS))
        for key, rows in groups.items()
    }
    if basis == "session":
        sums = {key: (*counts, sum(map(open_sessions, groups[key]))) for key, counts in sums.items() if any(counts)}
    return {(*key[:-1], clock(int(key[-1]))) if every else key: found for key, found in sums.items()}


def open_sessions(row: Counted, name: str = "sessions") -> int:
    """The sessions of a row that began less than a session window before windows are closed."""
    number: int = getattr(row, name)
    return number if row.window_ms + MINUTE_MS > MATURE_THROUGH else 0


def of_rows(rows: list[dict[str, Any]], by: list[str], every: bool) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """The same of rows that are not zeros."""
    names = ["step", *map(field, by), *(["start"] if every else [])]
    keys = [tuple(row[name] for name in names) for row in rows]
    assert len(set(keys)) == len(keys)
    counts = [tuple(row[name] for name in (OF_SESSIONS if "sessions" in row else COUNTS)) for row in rows]
    return {key: found for key, found in zip(keys, counts, strict=True) if any(found)}


def typed(by: list[str], filters: dict[str, list[str]], every: bool, basis: Basis) -> list[str]:
    """The options of the command line; several values in one option, a comma within a value escaped."""
    options = ["--funnel", FUNNEL, "--since", SINCE, "--until", UNTIL]
    options += ["--by", ",".join(by)] if by else []
    for name, values in filters.items():
        options += ["--where", f"{name}=" + ",".join(value.replace(",", "\\,") for value in values)]
    return [*options, *(["--every", "5m"] if every else []), "--basis", basis]


def asked(by: list[str], filters: dict[str, list[str]], every: bool, basis: Basis | None) -> list[tuple[str, str]]:
    """The parameters of the API; a dimension that is called like another parameter by where."""
    parameters = [("funnel", FUNNEL), ("since", SINCE), ("until", UNTIL), *(("by", name) for name in by)]
    for name, values in filters.items():
        parameters += [("where", f"since={value}") if name == "since" else (name, value) for value in values]
    parameters += [("every", "5m")] if every else []
    return [*parameters, *([("basis", str(basis))] if basis else [])]


@pytest.mark.parametrize("seed", range(24))
def test_command_line_and_api_count_as_a_group_by_in_python_does(api: Served, counted: Settings, seed: int) -> None:
    """By any of five dimensions and with any filters: the same numbers, as JSON and as CSV."""
    by, filters, every, basis = query = some_query(seed)
    counts = OF_SESSIONS if basis == "session" else COUNTS
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
    assert list(rows[0]) == [*(["start"] if every else []), "step", *map(field, by), *counts]
    assert [[row[name] for name in counts] for row in rows] == [
        [str(row[name]) for name in counts] for row in told["rows"]
    ]
    table = api.get("/api/v1/rates", [*asked(*query), ("format", "csv")]).text
    assert succeed(counted, "rate", *typed(*query), "--csv") == table


@pytest.mark.parametrize("seed", range(0, 24, 3))
def test_times_to_convert_are_grouped_by_any_dimension(api: Served, seed: int) -> None:
    """The quantiles of durations that have a slot of their own are exact."""
    by, filters, every, _ = some_query(seed)
    groups = grouped(WITHIN, by, filters, 5 * MINUTE_MS if every else None)
    took = {
        (*key[:-1], clock(int(key[-1]))) if every else key: sorted(value for row in rows for value in row.durations)
        for key, rows in groups.items()
    }
    rows = api.get("/api/v1/timers", asked(by, filters, every, None)).json["rows"]
    names = ["step", *map(field, by), *(["start"] if every else [])]
    found = {tuple(row[name] for name in names): (row["conversions"], row["p50_ms"]) for row in rows}
    assert found == {key: (len(all_), all_[(len(all_) - 1) // 2]) for key, all_ in took.items() if all_}


@pytest.mark.parametrize("seed", range(24))
def test_both_databases_count_as_a_group_by_in_python_does(
    either_counted: Database, funnels_path: Path, seed: int
) -> None:
    """Plain PostgreSQL and TimescaleDB, by the functions that command line and API call."""
    by, filters, every, basis = query = some_query(seed)
    settings = Settings(funnels_path=funnels_path)
    length = 5 * MINUTE_MS if every else None
    question = RateQuery(Scope(FUNNEL, filters), T, T + RANGE_MS, T + RANGE_MS, tuple(by), basis, length)
    assert of_rows(query_rates(either_counted, settings, question).rows(), by, every) == by_hand(*query)
    _, times = query_timers(either_counted, settings, question)
    groups = grouped(WITHIN, by, filters, length)
    assert sum(one.conversions for one in times) == sum(len(row.durations) for rows in groups.values() for row in rows)
    filters.pop("step", None)
    funnel = query_funnel(either_counted, settings, replace(question, scope=Scope(FUNNEL, filters), every_ms=None))
    assert funnel_of(funnel.rows(), by) == funnel_by_hand(by, filters)


def funnel_of(rows: list[dict[str, Any]], by: list[str]) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """Sessions that reached a step, completed it, and are open, by step and dimensions; of rows that are not zeros."""
    names = ("reached", "completed", "open")
    found = {(row["step"], *(row[field(one)] for one in by)): tuple(row[name] for name in names) for row in rows}
    assert len(found) == len(rows)
    return {key: counts for key, counts in found.items() if counts[0]}


def funnel_by_hand(by: list[str], filters: dict[str, list[str]]) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """The same, added up here."""
    return {
        key: (
            sum(row.reached for row in rows),
            sum(row.completed for row in rows),
            sum(open_sessions(row, "reached") for row in rows),
        )
        for key, rows in grouped(WITHIN, by, filters).items()
        if any(row.reached for row in rows)
    }


@pytest.mark.parametrize("seed", range(8))
def test_the_funnel_of_sessions_is_grouped_by_any_dimension(api: Served, counted: Settings, seed: int) -> None:
    """By command line and API, with any filters."""
    by, filters, _, _ = some_query(seed)
    filters.pop("step", None)
    wanted = funnel_by_hand(by, filters)
    reply = api.get("/api/v1/funnel", asked(by, filters, False, None))
    assert reply.status == 200, reply.text
    assert funnel_of(reply.json["rows"], by) == wanted
    options = typed(by, filters, False, "window")
    places = options.index("--funnel"), options.index("--basis")
    rest = [one for at, one in enumerate(options) if at not in {place + more for place in places for more in (0, 1)}]
    if wanted:
        assert succeed_json(counted, "funnel", FUNNEL, *rest) == reply.json
    else:
        assert run(counted, "funnel", FUNNEL, *rest).exit_code == 1


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
    query = ([*VALUES], {"plan": ["", "paid"]}, False, "window")
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
        fill(either)
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
    for path in ("rates", "counts", "timers", "funnel"):
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
