"""The pool of read-only connections against a real database: busy, away, frozen, restarted."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest

from funnelwatch.web.pool import CONNECTIONS, Pool, PoolBusyError
from tests.proxy import door

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.database import Database

NOWHERE = "postgresql://me:secret@127.0.0.1:1/db"


@pytest.fixture
def pool(settings: Settings, connect: Callable[[], Database]) -> Iterator[Pool]:
    """A pool on the test's database, whose tables are there."""
    one = Pool(settings.timescale_url, wait_s=2)
    yield one
    one.close()


def alive(database: Database) -> int:
    """Something that only a live connection answers."""
    return len(database.query("window_length"))


def test_a_request_beyond_the_limit_waits_and_is_then_refused(pool: Pool) -> None:
    """A connection that comes back serves the next request."""
    with ExitStack() as held:
        for _ in range(CONNECTIONS):
            alive(held.enter_context(pool.database()))
        began = time.monotonic()
        with pytest.raises(PoolBusyError, match="in use"):
            pool.run(alive)
        assert 1.9 < time.monotonic() - began < 8
    assert pool.run(alive) == 1


def test_a_waiting_request_gets_the_connection_that_comes_back(settings: Settings, pool: Pool) -> None:
    """It waits no longer than until then."""
    patient = Pool(settings.timescale_url, wait_s=10)
    try:
        with ExitStack() as held:
            for _ in range(CONNECTIONS):
                alive(held.enter_context(patient.database()))
            threading.Timer(0.5, held.close).start()
            began = time.monotonic()
            assert patient.run(alive) == 1
            assert time.monotonic() - began < 3
    finally:
        patient.close()


def test_a_database_that_is_away_is_reported_at_once() -> None:
    """A request does not wait for the pool's whole timeout, and the message is the server's."""
    pool = Pool(NOWHERE, wait_s=10)
    try:
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(psycopg.OperationalError, match="refused"):
                pool.run(alive)
            assert time.monotonic() - began < 1
    finally:
        pool.close()


def test_requests_succeed_as_soon_as_the_database_is_back(settings: Settings, pool: Pool) -> None:
    """All idle connections are dead by then; the first request replaces them, and no request fails."""
    with door(settings.timescale_url.get_secret_value()) as (entrance, url):
        behind = Pool(url, wait_s=5)
        try:
            with ExitStack() as held:
                for _ in range(CONNECTIONS):
                    alive(held.enter_context(behind.database()))
            entrance.shut()
            with pytest.raises(psycopg.OperationalError):
                behind.run(alive)
            entrance.open()
            assert behind.run(alive) == 1
            with ExitStack() as held:
                for _ in range(CONNECTIONS):
                    alive(held.enter_context(behind.database()))
            entrance.shut()
            entrance.open()
            began = time.monotonic()
            assert [behind.run(alive) for _ in range(CONNECTIONS)] == [1] * CONNECTIONS
            assert time.monotonic() - began < 2
        finally:
            behind.close()


def test_a_connection_can_only_read_and_its_statements_end(pool: Pool) -> None:
    """The limits hold on every connection that the pool makes."""
    with pool.database() as database, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        database.connection().execute("CREATE TABLE mine (one integer)")
    with pool.database() as database:
        shown = database.connection().execute("SHOW statement_timeout").fetchone()
    assert shown == {"statement_timeout": "10s"}


def test_an_error_of_the_question_is_raised_and_the_connection_goes_on(pool: Pool) -> None:
    """Only a dead connection is replaced."""

    def wrong(database: Database) -> None:
        with database.transaction() as cursor:
            cursor.execute("SELECT no_such_column")

    before = pool.run(lambda database: database.connection().info.backend_pid)
    with pytest.raises(psycopg.errors.UndefinedColumn):
        pool.run(wrong)
    assert pool.run(lambda database: database.connection().info.backend_pid) == before
