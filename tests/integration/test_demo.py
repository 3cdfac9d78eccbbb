"""The demo, as a new user runs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from funnelwatch.settings import PREFIX
from tests.stack import wait_until

PROGRAM = Path(sys.executable).with_name("funnelwatch")


def path_without(*programs: str) -> str:
    """PATH without the folders that hold any of these programs, as on a machine that does not have them."""
    folders = os.environ["PATH"].split(os.pathsep)
    return os.pathsep.join(
        folder for folder in folders if not any(shutil.which(program, path=folder) for program in programs)
    )


class Run:
    """A demo in a process of its own, in an empty folder, on a machine that reaches only PyPI."""

    def __init__(self, folder: Path, *args: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment["PATH"] = path_without("java", "mvn")
        self.out, self.err = folder / "out", folder / "err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [str(PROGRAM), "demo", *args], cwd=folder, env=environment, stdout=out, stderr=err
            )
        self.seen: dict[int, psutil.Process] = {}

    def said(self, text: str) -> bool:
        """Whether it has said this; also notes which processes belong to it now."""
        if self.process.poll() is None:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self.seen[child.pid] = child
        return text in self.err.read_text(errors="replace")

    def wait_for(self, text: str, timeout_s: float) -> None:
        """Wait until it says this; fail at once if it ends instead."""
        wait_until(lambda: self.said(text) or self.process.poll() is not None, f"the demo says {text!r}", timeout_s)
        assert self.said(text), self.err.read_text(errors="replace")

    def left_over(self) -> list[str]:
        """Processes that it started and that still run."""
        return [str(child) for child in self.seen.values() if child.is_running() and child.status() != "zombie"]


@pytest.mark.timeout(900)
def test_a_demo_loses_nothing_though_a_worker_is_killed_and_finds_the_incident(tmp_path: Path) -> None:
    """On a machine without Java and Maven, with a worker killed in the middle, the demo ends well by itself."""
    run = Run(tmp_path, "--exit-when-done", "--json")
    try:
        run.wait_for("of history produced", 180)
        worker = next(child for child in run.seen.values() if child.is_running() and "stream" in child.cmdline())
        worker.kill()
        run.wait_for("it is started again", 30)
        run.wait_for("INCIDENT", 300)
        run.process.wait(600)
    finally:
        run.process.kill()
    result = json.loads(run.out.read_text())
    assert result["faults"] == []
    assert run.process.returncode == 0
    assert result["events_produced"] == result["events_counted"] + result["dead_letters"]
    assert result["dead_letters"] == 12
    assert result["worker_restarts"] == 1
    assert result["kafka"].startswith("tansu")
    states = [(alert["state"], alert["step"], alert["dimensions"]) for alert in result["alerts"]]
    assert ("firing", "VERIFY_SMS_CODE", {"os": "iOS"}) in states
    assert states[-1][0] == "resolved"
    assert all(alert["step"] == "VERIFY_SMS_CODE" for alert in result["alerts"]), "a false alarm"
    assert run.left_over() == []


@pytest.mark.parametrize("moment", ["Starting Kafka", "ready in", "Starting workers", "Backfilling", "worker 0 runs"])
def test_ctrl_c_at_any_moment_leaves_nothing_behind(tmp_path: Path, moment: str) -> None:
    """Whatever the demo is doing, Ctrl-C ends every process that it started."""
    run = Run(tmp_path)
    try:
        run.wait_for(moment, 60)
        time.sleep(0.3)
        run.said(moment)
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(60) == 0, run.err.read_text()
    finally:
        run.process.kill()
    assert run.left_over() == []
    assert "Traceback" not in run.err.read_text()
