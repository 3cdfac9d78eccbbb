"""``funnelwatch board`` as a process of its own, that tests start, stop and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from funnelwatch.deploy.embedded.ports import free_port
from tests.command import PROGRAM, environment

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

START_S = 120.0


class BoardServer:
    """The board of some settings, on a port that stays its own.

    Args:
        settings: where database, Redis and Kafka are.
    """

    def __init__(self, settings: Settings) -> None:
        self._environment = {**os.environ, **environment(settings)}
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            AssertionError: it ended, or did not answer in time.
        """
        command = [*PROGRAM, "board", "--port", str(self.port)]
        self._process = subprocess.Popen(command, env=self._environment, stdout=subprocess.DEVNULL)
        limit = time.monotonic() + START_S
        while time.monotonic() < limit:
            assert self._process.poll() is None, "the board has ended"
            try:
                with urllib.request.urlopen(f"{self.url}healthz", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise AssertionError("the board does not answer")

    def stop(self) -> int:
        """End it as with Ctrl-C; its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
