"""What goes wrong beside a command, before it or with its terminal, is no traceback."""

from __future__ import annotations

import socket

import pytest
from click.testing import CliRunner

from funnelwatch.cli.worker import worker


@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_worker_on_a_port_in_use_is_told_what_to_do(processes: int) -> None:
    """It would die of it again and again, with a traceback each time; the port of its last process counts too."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        arguments = ["--processes", str(processes), "--web-port", str(port - processes + 1)]
        done = CliRunner().invoke(worker, arguments)
    assert done.exit_code == 1
    assert f"cannot listen at 127.0.0.1, port {port}: Address already in use. If another worker" in done.stderr
