"""Stores on a database of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sinks.timescale.closing import ClosingStore
from sinks.timescale.counts import CountStore
from sinks.timescale.database import Database
from sinks.timescale.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from funnelwatch.settings import Settings


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
