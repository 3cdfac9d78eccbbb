"""A dump of the database, restored into a fresh one by an ordinary role: workers go on counting exactly."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from funnelwatch.schemas.redaction import revealed
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.retention import Retention, drop_expired
from tests.by_hand import counts_by_hand
from tests.command import succeed_json
from tests.filling import count_in, keep_for
from tests.integration.test_views import DAY_MS, SMS, rows
from tests.ledger import agree, begin_anew, notes
from tests.roles import PASSWORD, with_login
from tests.stack import drop_database, make_database, wait_until
from tests.traffic import counted, done, now_ms, prepared, produce, some_events, totals
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings
    from tests.stack import Servers

BACKUP = (Path(__file__).parents[2] / "docs" / "backup.md").read_text()
QUICK = {"session_timeout_s": 2.0, "allowed_disorder_s": 0.5, "idle_timeout_s": 1.0, "window_s": 60}


@pytest.fixture
def addresses(stack: Servers) -> Iterator[list[str]]:
    """Two empty databases of a role that owns them and may nothing else."""
    if stack.timescaledb:
        pytest.skip(f"NO PLAIN POSTGRESQL: {stack.database}")
    if shutil.which("pg_dump") is None or shutil.which("pg_restore") is None:
        pytest.skip("NO PG_DUMP: pg_dump and pg_restore are not on PATH")
    role, names = f"owner_{uuid.uuid4().hex[:12]}", [f"test_{uuid.uuid4().hex}" for _ in range(2)]
    urls = [make_database(stack.timescale_url, name, timescaledb=False) for name in names]
    with psycopg.connect(stack.timescale_url, autocommit=True) as admin:
        create = "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}"
        admin.execute(sql.SQL(create).format(sql.Identifier(role), sql.Literal(PASSWORD)))
        for name in names:
            admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(role)))
    yield [with_login(url, role) for url in urls]
    for name in names:
        drop_database(stack.timescale_url, name)
    with psycopg.connect(stack.timescale_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def copied(source: str, target: str, folder: Path) -> None:
    """Dump and restore by the first commands of docs/backup.md, as they stand there."""
    env = os.environ | {"FUNNELWATCH_TIMESCALE_URL": source, "NEW_URL": target}
    for program in ("pg_dump", "pg_restore"):
        command = next(line for line in BACKUP.splitlines() if line.startswith(f"{program} "))
        subprocess.run(command, shell=True, env=env, cwd=folder, check=True, timeout=300)


def test_a_restored_database_counts_on_exactly(settings: Settings, addresses: list[str], tmp_path: Path) -> None:
    """What was counted after the backup is read from the topic again; nothing is there twice, in no level."""
    before = prepared(settings.model_copy(update=QUICK | {"timescale_url": addresses[0]}))
    after = before.model_copy(update={"timescale_url": addresses[1]})
    with closing(Database(before.timescale_url)) as database:
        migrate(database, before.window_ms)
        begin_anew(database)
    first, second, third = (some_events(1_000, seed) for seed in range(3))
    produce(before, first)
    with worker(before) as one:
        wait_until(lambda: done(before, 1_000) or not one.running, "the first are counted", 120)
        one.stop()
    with closing(Database(before.timescale_url)) as database:
        materialize(database, now_ms())
    copied(revealed(before.timescale_url), revealed(after.timescale_url), tmp_path)
    produce(before, second)
    with worker(before) as one:
        wait_until(lambda: done(before, 2_000) or not one.running, "those after the backup are counted", 120)
        one.stop()
    assert counted(after) == counts_by_hand(first, before.window_ms)
    produce(after, third)
    succeed_json(after, "rebuild", "redis")
    with worker(after) as one:
        wait_until(lambda: done(after, 3_000) or not one.running, "all are counted", 120)
        assert one.running, one.text()
        one.stop()
    assert counted(after) == counts_by_hand([*first, *second, *third], after.window_ms)
    assert totals(after) == {"counted": 3_000, "accepted": 3_000, "rejected": 0, "duplicates": 0}
    with closing(Database(after.timescale_url)) as database:
        agree(database)


def test_rollups_and_what_is_noted_are_restored(addresses: list[str], tmp_path: Path) -> None:
    """Nothing needs to be materialized anew, and nothing that was dropped is forgotten."""
    today = now_ms() - now_ms() % DAY_MS
    with closing(Database(addresses[0])) as source, closing(Database(addresses[1])) as target:
        migrate(source, 60_000)
        begin_anew(source)
        for days in (2, 40, 80):
            key = today - days * DAY_MS, SMS, "a", "", ""
            count_in(source, {key: (9, 3, 1)}, durations={key: [5, 900, 70_000]})
        keep_for(source, Retention(30, 60, 0, 0))
        materialize(source, now_ms())
        drop_expired(source, now_ms())
        count_in(source, {(today - 2 * DAY_MS, SMS, "a", "", ""): (9, 3, 1)})
        copied(addresses[0], addresses[1], tmp_path)
        assert migrate(target, 60_000) == []
        agree(target)
        assert notes(target) == notes(source) != []
        for table in ("rollup_progress", "retention", "conversion_1h", "time_to_convert_1d"):
            state = f"SELECT * FROM {table} ORDER BY 1"
            assert rows(target, state) == rows(source, state)
        assert [row["impressions"] for row in rows(target, "SELECT * FROM conversion_1h ORDER BY 1")] == [9, 9, 18]
        for _ in range(2):
            materialize(target, now_ms())
            drop_expired(target, now_ms())
            agree(target)
