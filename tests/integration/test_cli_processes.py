"""The command line as a process of its own: interrupts, terminals, imports, ports and pages."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from funnelwatch.schemas.settings import Settings
from funnelwatch.settings_doc import PLACE, document
from tests.worker import environment

if TYPE_CHECKING:
    from pathlib import Path

INTERRUPTED_IMPORT = """
import sys

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
from funnelwatch.cli.main import main
main(["status"])
"""


def program(text: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own."""
    env = {**os.environ, **environ}
    return subprocess.run(
        [sys.executable, "-c", text], env=env, capture_output=True, encoding="ascii", errors="replace", check=False
    )


def test_ctrl_c_while_a_command_is_imported_is_one_line() -> None:
    """A person who changes their mind in the first second sees what click says of a Ctrl-C later."""
    done = program(INTERRUPTED_IMPORT)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "\nAborted!\n")


def test_a_terminal_that_is_not_in_utf_8_is_no_error() -> None:
    """What it has no character for is a question mark."""
    text = "from funnelwatch.cli.main import main; main(['--help'])"
    done = program(text, PYTHONIOENCODING="latin-1")
    assert (done.returncode, "FUNNELWATCH_?" in done.stdout) == (0, True), done.stderr


HEAVY = {
    "pydantic",
    "numpy",
    "confluent_kafka",
    "fastavro",
    "faust",
    "aiokafka",
    "aiohttp",
    "psycopg",
    "redis",
    "fastapi",
}


def test_help_imports_nothing_heavy() -> None:
    """``funnelwatch --help`` answers at once: it needs click and nothing of what the commands need."""
    program = """
import sys
from funnelwatch.cli.main import main
try:
    main(["--help"])
finally:
    print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "collector-key" in done.stdout
    assert not HEAVY & set(done.stderr.split())


def test_a_port_that_is_taken_is_named() -> None:
    """With what to do, and exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(kafka_bootstrap_servers="127.0.0.1:9", collector_port=port, collector_delivery_timeout_s=1)
        program = "from funnelwatch.cli.main import main; main(['collector', '--open'])"
        env = environment(settings)
        done = subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False, timeout=120
        )
    assert done.returncode == 1
    assert f"Error: nothing listens on 127.0.0.1:{port}: is the port taken? Name another with --port" in done.stderr


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    """It is written below the current folder, and a folder without docs is told."""
    command = [sys.executable, "-m", "funnelwatch.settings_doc"]
    rejected = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (rejected.returncode, "docs is not here" in rejected.stderr) == (1, True)
    (tmp_path / "docs").mkdir()
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / PLACE).read_text() == document()
