"""What goes wrong beside a command, before it or with its terminal, is no traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner

from funnelwatch.cli.worker import worker

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


@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_worker_on_a_port_in_use_is_told_what_to_do(processes: int) -> None:
    """It would die of it again and again, with a traceback each time; the port of its last process counts too."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        arguments = ["--processes", str(processes), "--web-port", str(port - processes + 1)]
        done = CliRunner().invoke(worker, arguments)
    assert done.exit_code == 1
    assert f"cannot listen at 127.0.0.1, port {port}: Address already in use. If another worker" in done.stderr
