"""The demo, as a new user runs it."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.integration.demo_run import Run, arguments

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(2400)
def test_a_demo_loses_nothing_though_a_worker_is_killed_and_finds_the_incident(tmp_path: Path) -> None:
    """On a machine without Java and Maven, with a worker killed in the middle, the demo ends well by itself."""
    run = Run(tmp_path, "--exit-when-done", "--json")
    try:
        run.wait_for("of history produced", 300)
        worker = next(child for child in run.seen.values() if "funnelwatch.stream" in arguments(child))
        worker.kill()
        run.wait_for("it is started again", 120)
        run.wait_for("INCIDENT", 800)
        [board] = re.findall(r"live in your browser: (\S+)", run.err.read_text(errors="replace"))
        with urllib.request.urlopen(board, timeout=60) as page:
            assert b"<title>funnelwatch</title>" in page.read()
        run.process.wait(1000)
    finally:
        run.process.kill()
    result = json.loads(run.out.read_text())
    assert result["errors"] == []
    assert run.process.returncode == 0
    assert result["events_produced"] == result["events_counted"] + result["dead_letters"]
    assert result["dead_letters"] == 12
    assert result["worker_restarts"] >= 1
    assert result["kafka"].startswith("tansu")
    assert result["prometheus"] is None or len(result["prometheus"]["sql"]) == 4
    live = [alert for alert in result["alerts"] if alert["window_start"] >= result["live_since"]]
    assert {alert["step"] for alert in live} == {"VERIFY_SMS_CODE"}
    assert all(alert["window_end"] > result["incident"]["start"] for alert in live), "a false alarm before the incident"
    # All together, or iOS: whichever is significant first holds the other back.
    assert all(alert["dimensions"] in ({}, {"os": "iOS"}) for alert in live)
    assert live[-1]["state"] == "resolved"
    assert run.left_over() == []
    assert not (tmp_path / ".funnelwatch").exists(), "data of the demo stays behind"
