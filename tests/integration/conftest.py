"""Stores on a database of the test's own."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from funnelwatch.sinks.timescale.closing import ClosingStore
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from tests.extension import NoTimescaleError, timescaledb
from tests.stack import docker_is_wanted, drop_database, make_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from funnelwatch.schemas.settings import Settings
    from tests.stack import Servers


@pytest.fixture
def connect(settings: Settings) -> Iterator[Callable[[], Database]]:
    """Makes connections to the test's database, whose tables are there; they are closed in the end."""
    made: list[Database] = []

    def database() -> Database:
        made.append(Database(settings.timescale_url))
        return made[-1]

    migrate(database(), settings.window_ms)
    yield database
    for one in made:
        one.close()


@pytest.fixture
def store(connect: Callable[[], Database]) -> CountStore:
    """The counts of record."""
    return CountStore(connect())


@pytest.fixture
def closing(connect: Callable[[], Database]) -> ClosingStore:
    """The closer's view, over a connection of its own."""
    return ClosingStore(connect())


WINDOW_MS = 60_000


@pytest.fixture(scope="module")
def extended(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A real TimescaleDB whose tables are there, for the tests of one file; each keeps to funnels of its own."""
    docker_url = request.getfixturevalue("stack").timescale_url if docker_is_wanted() else None
    try:
        with timescaledb(docker_url) as database:
            migrate(database, WINDOW_MS)
            yield database
    except NoTimescaleError as error:
        pytest.skip(f"NO TIMESCALEDB: {error}")


@pytest.fixture(scope="module")
def plain(stack: Servers) -> Iterator[Database]:
    """A plain PostgreSQL whose tables are there, likewise."""
    if stack.timescaledb:
        pytest.skip(f"NO PLAIN POSTGRESQL: {stack.database}")
    name = f"test_{uuid.uuid4().hex}"
    database = Database(make_database(stack.timescale_url, name, timescaledb=False))
    migrate(database, WINDOW_MS)
    yield database
    database.close()
    drop_database(stack.timescale_url, name)


@pytest.fixture(params=["postgresql", "timescaledb"])
def either(request: pytest.FixtureRequest) -> Database:
    """Plain PostgreSQL and TimescaleDB, one after the other: what is tested so is the same on both."""
    database: Database = request.getfixturevalue("plain" if request.param == "postgresql" else "extended")
    return database


@pytest.fixture
def funnel() -> str:
    """A funnel that no other test has."""
    return f"f{uuid.uuid4().hex[:12]}"
