"""The demo, ended by the user."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from funnelwatch.deploy.embedded import postgres_place
from tests.integration.demo_run import Run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("moment", ["Starting Kafka", "ready in", "Starting workers", "Backfilling", "worker 0 runs"])
def test_ctrl_c_at_any_moment_leaves_nothing_behind(tmp_path: Path, moment: str) -> None:
    """Whatever the demo is doing, Ctrl-C ends every process that it started."""
    run = Run(tmp_path)
    try:
        run.wait_for(moment, 180)
        time.sleep(0.3)
        run.said(moment)
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(120) == 0, run.err.read_text()
    finally:
        run.process.kill()
    assert run.left_over() == []
    assert not (tmp_path / ".funnelwatch").exists()
    assert "Traceback" not in run.err.read_text()


def test_keep_leaves_the_data_and_no_process(tmp_path: Path) -> None:
    """With --keep the database and the logs stay in the data folder, and every process ends."""
    run = Run(tmp_path, "--keep")
    try:
        run.wait_for("Backfilling", 180)
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(120) == 0, run.err.read_text()
    finally:
        run.process.kill()
    assert run.left_over() == []
    kept = tmp_path / ".funnelwatch" / "demo"
    # As root, PostgreSQL's data are where its own user can reach them.
    place = postgres_place.existing_outside(kept) or kept / "postgres"
    assert (place / "data" / "PG_VERSION").is_file()
    assert list(kept.rglob("worker*.log"))
    postgres_place.remove(kept)
