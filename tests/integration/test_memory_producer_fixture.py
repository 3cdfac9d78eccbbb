"""The fixture of ``funnelwatch.testing`` in a user's own pytest, and the module where pytest is absent."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.worker import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_the_fixture_comes_by_pytest_plugins(tmp_path: Path) -> None:
    """One line in a conftest, and each test has a producer of its own."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["funnelwatch.testing"]\n')
    (tmp_path / "test_app.py").write_text(
        "def test_one(funnel_producer):\n"
        "    funnel_producer.impression('s', 'A')\n"
        "    assert [event.step for event in funnel_producer.events] == ['A']\n\n\n"
        "def test_two(funnel_producer):\n"
        "    assert funnel_producer.events == []\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
    ]
    done = subprocess.run(
        [*command, str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_without_pytest_the_module_is_imported_all_the_same() -> None:
    """Nor does anything of it need pytest."""
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "from funnelwatch.testing import MemoryProducer\n"
        "producer = MemoryProducer(); producer.impression('s', 'A'); print(len(producer.events))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1\n", "")
