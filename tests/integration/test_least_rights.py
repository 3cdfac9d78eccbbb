"""A role that owns its schema is enough for a worker, and one that may read for whoever shows."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.sinks.timescale.closing import ClosingStore
from funnelwatch.sinks.timescale.database import Database, run
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.migrations import MissingRightsError, migrate
from funnelwatch.sinks.timescale.reader import Reader
from funnelwatch.sinks.timescale.retention import Retention, drop_expired
from tests import command
from tests.board_server import BoardServer
from tests.extension import NoTimescaleError, timescaledb
from tests.filling import count_in, keep_for
from tests.roles import Roles, few_rights, with_login
from tests.stack import docker_is_wanted, wait_until
from tests.traffic import event, now_ms, prepared, produce, totals
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

RULE = "{alert: Dropped, kind: threshold, below: 0.9, over: 3s, min_impressions: 1}"
QUICK = {"allowed_disorder_s": 0.2, "idle_timeout_s": 0.5, "window_s": 1, "watchdog_every_s": 0}

RELATIONS = """
SELECT n.nspname
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE pg_get_userbyid(c.relowner) = %s AND n.nspname NOT LIKE 'pg_toast%%'
GROUP BY 1
"""


@pytest.fixture
def roles(database_url: str) -> Iterator[Roles]:
    """Roles of few rights, and a schema whose name must be quoted."""
    with few_rights(database_url, 'Fun nel "1"') as made:
        yield made


def make_reader_role(roles: Roles) -> None:
    """Make the role that only reads, as an administrator would, unless another test of this server has made it."""
    roles.admin_runs(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnelwatch_reader') "
        "THEN CREATE ROLE funnelwatch_reader NOLOGIN; END IF; "
        "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    )


def get(url: str) -> str:
    """The body of an answer."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def test_a_worker_needs_its_schema_only_and_whoever_shows_needs_to_read(
    settings: Settings, roles: Roles, tmp_path: Path
) -> None:
    """Events in, windows closed, an alert out, as the schema's owner; exporter, board and commands as a reader."""
    rules = tmp_path / "rules.yml"
    rules.write_text(f"groups: [{{name: g, rules: [{RULE}]}}]\n")
    owner = prepared(settings.model_copy(update={**QUICK, "timescale_url": roles.owner, "rules_path": rules}))
    reader = owner.model_copy(update={"timescale_url": roles.reader})
    early = command.run(reader, "alerts")
    assert (early.exit_code, "no tables of funnelwatch yet" in early.stderr) == (1, True), early.output
    port = free_port()
    shown = command.start(reader, "exporter", "--port", str(port), out=tmp_path / "exporter")
    board = BoardServer(reader)
    try:
        metrics = f"http://{HOST}:{port}/metrics"
        wait_until(lambda: _up(metrics) == 0 or shown.poll() is not None, "the exporter waits for tables", 120)
        board.start()
        with worker(owner) as one:
            wait_until(lambda: one.assigned() or not one.running, f"it starts: {one.text()}", 120)
            roles.let_read()
            alerted = False
            for _ in range(60):
                produce(owner, [event() for _ in range(20)])
                with contextlib.suppress(TimeoutError):
                    wait_until(lambda: "ALERT firing" in one.text() or not one.running, "an alert", 2)
                    alerted = True
                    break
            assert one.running, one.text()
            assert alerted, one.text()
            assert totals(owner)["accepted"] > 0
            wait_until(lambda: _up(metrics) == 1, "the exporter shows")
            assert "funnelwatch_funnel_impressions_total{" in get(metrics)
            rate = command.succeed_json(reader, "rate", "--since", "10m")["rows"]
            assert rate[0]["impressions"] > 0
            assert "FIRING" in command.succeed(reader, "alerts", "--last", "5")
            rates = json.loads(get(f"{board.url}api/v1/rates?since=10m"))
            assert rates["rows"][0]["impressions"] > 0
            assert json.loads(get(f"{board.url}api/v1/alerts"))["alerts"][0]["rule"] == "Dropped"
            for arguments in (["dead-letters", "list"], ["silence", "list"], ["doctor"]):
                result = command.run(reader, *arguments)
                assert "permission denied" not in result.output, result.output
                assert result.exit_code == 0, result.output
            writing = command.run(reader, "rebuild", "rollups")
            assert writing.exit_code == 1, writing.output
            assert one.stop() == 0, one.text()
            assert "Traceback" not in one.text()
    finally:
        shown.terminate()
        shown.wait(60)
        board.stop()
    assert "Traceback" not in (tmp_path / "exporter.err").read_text()
    with psycopg.connect(roles.admin) as session:
        assert session.execute(RELATIONS, [roles.owner_name]).fetchall() == [(roles.schema,)]


def _up(url: str) -> float | None:
    with contextlib.suppress(OSError):
        for line in get(url).splitlines():
            if line.startswith("funnelwatch_exporter_up "):
                return float(line.split()[1])
    return None


def test_the_owner_of_a_schema_does_all_upkeep(roles: Roles) -> None:
    """Retention and rollups as well; a second start finds nothing to do."""
    with contextlib.closing(Database(roles.owner)) as database:
        assert "002_counts.sql" in migrate(database, 60_000)
        assert migrate(database, 60_000) == []
        assert keep_for(database, Retention(windows=90)) == ["windows"]
        materialize(database, now_ms())
        drop_expired(database, now_ms())


def test_who_may_make_no_tables_learns_what_an_administrator_runs(database_url: str, roles: Roles) -> None:
    """No schema of its own, or one where it may not create: one sentence that names the role and the remedy."""
    with contextlib.closing(Database(roles.reader)) as database, pytest.raises(MissingRightsError) as raised:
        migrate(database, 60_000)
    assert "CREATE SCHEMA funnelwatch AUTHORIZATION" in str(raised.value)
    roles.admin_runs("GRANT USAGE ON SCHEMA {} TO {}", roles.schema, roles.reader_name)
    with contextlib.closing(Database(roles.reader)) as database, pytest.raises(MissingRightsError) as raised:
        migrate(database, 60_000)
    assert f"{roles.reader_name} cannot prepare the tables in the schema {roles.schema}" in str(raised.value)


def test_a_user_that_owns_no_table_starts_where_nothing_is_to_be_made(roles: Roles) -> None:
    """Tables made by somebody else are no reason to make them again."""
    with contextlib.closing(Database(roles.owner)) as database:
        migrate(database, 60_000)
    roles.let_read()
    roles.admin_runs("ALTER ROLE {} SET default_transaction_read_only = off", roles.reader_name)
    with contextlib.closing(Database(roles.reader)) as database:
        assert migrate(database, 60_000) == []


def test_a_schema_found_by_the_users_own_name_is_found_as_reader_too(database_url: str, roles: Roles) -> None:
    """With the default search path a schema named as its user comes first, also while the user acts as another role."""
    roles.admin_runs("CREATE SCHEMA {0} AUTHORIZATION {0}", roles.owner_name)
    make_reader_role(roles)
    roles.admin_runs("GRANT funnelwatch_reader TO {}", roles.owner_name)
    url = with_login(database_url, roles.owner_name)
    with contextlib.closing(Database(url)) as database:
        migrate(database, 60_000)
    with contextlib.closing(Reader(url, application="test", statement_s=5)) as reader:
        assert _who(reader)["role"] == "funnelwatch_reader"
        assert reader.query("window_length") == [{"window_ms": 60_000}]
        assert _who(reader)["schema"] == roles.owner_name


def test_the_reader_role_of_another_deployment_is_not_taken(database_url: str, roles: Roles) -> None:
    """Roles are the server's: one that may read other tables, and not these, would see nothing."""
    make_reader_role(roles)
    with contextlib.closing(Database(roles.owner)) as database:
        migrate(database, 60_000)
        with database.transaction() as cursor:
            cursor.execute("REVOKE ALL ON window_counts FROM funnelwatch_reader")
    roles.admin_runs("GRANT funnelwatch_reader TO {}", roles.owner_name)
    with contextlib.closing(Reader(roles.owner, application="test", statement_s=5)) as reader:
        assert _who(reader)["role"] == roles.owner_name
        assert reader.query("window_length") == [{"window_ms": 60_000}]


def test_two_schemas_of_one_database_close_windows_beside_each_other(database_url: str, roles: Roles) -> None:
    """The same topic of two clusters: neither waits for the other's closer."""
    with (
        few_rights(database_url, "another") as others,
        contextlib.closing(Database(roles.owner)) as first,
        contextlib.closing(Database(others.owner)) as second,
        contextlib.closing(Database(others.owner)) as third,
    ):
        migrate(first, 60_000)
        migrate(second, 10_000)
        with ClosingStore(first).sole_closer("events") as one, ClosingStore(second).sole_closer("events") as other:
            assert (one, other) == (True, True)
            with ClosingStore(third).sole_closer("events") as same:
                assert not same


def test_timescaledb_in_another_schema_is_found(request: pytest.FixtureRequest, funnel: str) -> None:
    """Hypertables, policies and rollups work in a schema that the extension is not in, and make nothing elsewhere.

    Everybody is superuser on the TimescaleDB of these tests; what a role may do is tested on PostgreSQL.
    """
    docker_url = request.getfixturevalue("stack").timescale_url if docker_is_wanted() else None
    try:
        with timescaledb(docker_url) as database:
            with database.outside_transaction() as cursor:
                cursor.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
                cursor.execute('CREATE SCHEMA "Fun nel"')
                cursor.execute("""SET search_path = "Fun nel" """)
                run(cursor, "see_extension")
            assert "008_hypertables.timescale.sql" in migrate(database, 60_000)
            window = now_ms() // 60_000 * 60_000 - 3 * 3_600_000
            count_in(database, {(window, "A", "", "", ""): (5, 4, 1)}, funnel=funnel)
            keep_for(database, Retention(windows=90))
            assert materialize(database, now_ms()) > 0
            with database.transaction() as cursor:
                cursor.execute("SELECT sum(impressions)::int AS shown FROM conversion_1h WHERE funnel = %s", [funnel])
                assert cursor.fetchall() == [{"shown": 5}]
                cursor.execute("SELECT count(*)::int AS number FROM pg_tables WHERE schemaname = 'public'")
                assert cursor.fetchall() == [{"number": 0}]
    except NoTimescaleError as error:
        pytest.skip(f"NO TIMESCALEDB: {error}")


def _who(database: Database) -> Any:
    return database.query("where_tables_go")[0]
