"""Migrations: once, in order, by whoever comes first."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import conninfo, sql

from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import DatabaseEncodingError, WindowLengthError, migrate

if TYPE_CHECKING:
    from collections.abc import Callable


def test_processes_that_start_at_once_run_each_migration_once(database_url: str) -> None:
    """Of four that begin together one does the work, and the others find it done."""

    def run(_: int) -> list[str]:
        database = Database(database_url)
        try:
            return migrate(database, 60_000)
        finally:
            database.close()

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(run, range(4)))
    assert sorted(map(len, done))[:3] == [0, 0, 0]
    (names,) = filter(None, done)
    assert names == sorted(names)
    assert names[0] == "001_progress.sql"
    assert run(0) == []


def test_another_window_length_is_rejected_in_a_sentence(connect: Callable[[], Database]) -> None:
    """Counts of one window length are not mixed with another; the message says both."""
    with pytest.raises(WindowLengthError, match=r"windows of 60 s, but FUNNELWATCH_WINDOW_S says 10: set it to 60"):
        migrate(connect(), 10_000)
    assert migrate(connect(), 60_000) == []


def test_a_database_that_cannot_hold_every_name_is_rejected_in_a_sentence(database_url: str) -> None:
    """In LATIN1 the first event with a Cyrillic step would stop the stream; the message says what to make instead."""
    name = f"latin_{uuid.uuid4().hex}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        make = "CREATE DATABASE {} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        connection.execute(sql.SQL(make).format(sql.Identifier(name)))
        try:
            database = Database(conninfo.make_conninfo(database_url, dbname=name))
            with pytest.raises(DatabaseEncodingError, match=r"stores text as LATIN1.*ENCODING 'UTF8'"):
                migrate(database, 60_000)
            database.close()
        finally:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def test_a_migration_that_fails_leaves_nothing_behind(database_url: str) -> None:
    """A table that is in the way is an error, and the next try starts from the same place."""
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute("CREATE TABLE late_windows (mine int)")
        database = Database(database_url)
        with pytest.raises(psycopg.errors.DuplicateTable):
            migrate(database, 60_000)
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        assert session.execute(tables).fetchall() == [("late_windows",)]
        session.execute("DROP TABLE late_windows")
        assert "001_progress.sql" in migrate(database, 60_000)
        database.close()
