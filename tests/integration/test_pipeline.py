"""A real worker on real servers: what is produced is counted once or refused once, whatever happens in between."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from sinks.timescale.database import Database
from tests.stack import wait_until
from tests.traffic import (
    closed_windows,
    counted,
    done,
    event,
    everything,
    naive_counts,
    now_ms,
    prepared,
    produce,
    some_events,
    totals,
)
from tests.worker import Worker, worker, workers

if TYPE_CHECKING:
    from funnelwatch.settings import Settings

QUICK = {"session_timeout_s": 2.0, "allowed_disorder_s": 0.5, "idle_timeout_s": 1.0, "window_s": 1}


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings with short times, and tables and topics made."""
    from sinks.timescale.migrations import migrate

    quick = prepared(settings.model_copy(update=QUICK))
    database = Database(quick.timescale_url)
    migrate(database, quick.window_ms)
    database.close()
    return quick


def wait_done(settings: Settings, records: int, *running: Worker) -> None:
    """Wait until so many records have been dealt with, or a worker has ended."""
    wait_until(
        lambda: done(settings, records) or not all(one.running for one in running),
        f"{records} records are dealt with; {totals(settings)}",
        60,
    )
    for one in running:
        assert one.running, one.text()


def test_everything_produced_is_counted_and_a_stopped_worker_leaves_at_once(quick: Settings) -> None:
    """All keys equal an independent group-by, and SIGTERM ends the worker with exit code 0 within a few seconds."""
    events = some_events(3_000)
    produce(quick, events)
    with worker(quick) as one:
        wait_done(quick, len(events), one)
        began = time.monotonic()
        assert one.stop() == 0, one.text()
        assert time.monotonic() - began < 8, one.text()
        assert "Traceback" not in one.text()
    assert counted(quick) == naive_counts(events, quick.window_ms)
    assert totals(quick)["refused"] == 0
