"""Locks of a process that was frozen do not outlive a stated time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from funnelwatch.sinks.errors import is_transient
from funnelwatch.sinks.timescale.closing import ClosingStore
from funnelwatch.sinks.timescale.database import Database
from tests.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.schemas.settings import Settings


def test_a_transaction_that_stands_still_loses_its_locks_and_its_owner_may_try_again(
    settings: Settings, connect: Callable[[], Database]
) -> None:
    """The rows of a frozen worker are free for its successor; when it goes on it finds an outage, not an error."""
    frozen = Database(settings.timescale_url, idle_in_transaction_s=0.5)
    connect().connection().execute("INSERT INTO funnel_progress (funnel) VALUES ('f')")
    lock = "SELECT 1 FROM funnel_progress WHERE funnel = 'f' FOR UPDATE"

    def freeze() -> None:
        with frozen.transaction() as cursor:
            began = time.monotonic()
            cursor.execute(lock)
            with connect().transaction() as other:
                other.execute(lock)
            assert 0.3 < time.monotonic() - began < 60
            cursor.execute(lock)

    with pytest.raises(psycopg.Error) as raised:
        freeze()
    assert is_transient(raised.value)
    with frozen.transaction() as cursor:
        cursor.execute(lock)
    frozen.close()


def test_a_closer_that_stands_still_loses_its_lock(settings: Settings, connect: Callable[[], Database]) -> None:
    """Another worker becomes the one closer; the frozen one finds an outage when it goes on."""
    frozen = Database(settings.timescale_url, idle_session_s=3.0)
    other = ClosingStore(connect())

    def alone() -> bool:
        with other.sole_closer("events") as sole:
            return sole

    assert alone()

    def freeze() -> None:
        with ClosingStore(frozen).sole_closer("events") as sole:
            assert sole
            assert not alone()
            wait_until(alone, "another worker closes")

    with pytest.raises(psycopg.Error) as raised:
        freeze()
    assert is_transient(raised.value)
    frozen.close()
