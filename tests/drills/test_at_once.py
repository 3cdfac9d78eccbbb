"""Several drills at the same time: ``python -m tests.drills --at-once``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil

from tests.stack import not_on_tansu, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = not_on_tansu("keeps no guarantees")

DRILLS = [
    sys.executable,
    "-m",
    "tests.drills",
    "duplicates",
    "poison",
    "--short",
    "--events",
    "500",
    "--seed",
    "3",
    "--at-once",
    "2",
]


def test_each_has_its_result() -> None:
    """One JSON object each, with the options that were given; the exit code is theirs."""
    done = subprocess.run([*DRILLS, "--json"], capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    results = {one["drill"]: one for one in map(json.loads, done.stdout.splitlines())}
    assert sorted(results) == ["duplicates", "poison"]
    assert all(one["ok"] and one["seed"] == 3 and one["records"] <= 600 for one in results.values()), results


def test_ended_it_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM in the middle of two drills ends them, their workers and their servers."""
    said = tmp_path / "said"
    with said.open("w") as errors:
        process = subprocess.Popen(DRILLS, stdout=errors, stderr=errors, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    try:
        wait_until(lambda: all(f"drill {name}, seed" in said.read_text() for name in DRILLS[3:5]), "both began", 240)
        under_way = psutil.Process(process.pid).children(recursive=True)
        assert len(under_way) > 4
        process.send_signal(signal.SIGTERM)
        assert process.wait(240) == 130, said.read_text()
        assert not [one for one in under_way if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    finally:
        process.kill()
