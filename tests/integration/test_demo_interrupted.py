"""The demo, ended by the user."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

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
