"""The board of a demo: ``funnelwatch board`` as a process of its own, on the demo's servers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import webbrowser
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO

from funnelwatch.deploy.embedded.ports import HOST, free_ports
from funnelwatch.deploy.supervisor import end_with_parent
from funnelwatch.program import PROGRAM
from funnelwatch.schemas.settings import Settings
from funnelwatch.schemas.web_client import Unanswered, ask

if TYPE_CHECKING:
    from collections.abc import Mapping

START_S = 90.0
STOP_S = 10.0


class Board:
    """A board that runs from ``start`` to ``stop``.

    Args:
        environment: settings of the demo, by their environment names.
        output: its log.
    """

    def __init__(self, environment: Mapping[str, str], output: BinaryIO) -> None:
        self._environment = {**os.environ, **environment}
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.stopping = threading.Event()

    def start(self) -> str | None:
        """Start the board; its address, or None if it does not start or ``stop`` is called meanwhile."""
        for preferred in (Settings.model_fields["board_port"].default, None):  # another process may take the first
            url = f"http://{HOST}:{free_ports({'board': preferred})['board']}/"
            with self._lock:
                if self.stopping.is_set():
                    return None
                process = self._process = self._launch(url)
            if self._answers(process, url):
                return url
            self._end(process)
        return None

    def _launch(self, url: str) -> subprocess.Popen[bytes]:
        port = url.rstrip("/").rpartition(":")[2]
        return subprocess.Popen(  # noqa: S603 - our own program
            [*PROGRAM, "board", "--host", HOST, "--port", port],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            # A terminal's Ctrl-C is for the demo, which ends the board.
            start_new_session=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - one call of libc, no lock is taken
        )

    @staticmethod
    def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
        """Wait until the board answers; false if it ends or does not answer in time."""
        limit = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < limit:
            try:
                if ask(f"{url}healthz", timeout_s=2).status == HTTPStatus.OK:
                    return process.poll() is None
            except Unanswered:
                pass
            time.sleep(0.1)
        return False

    def stop(self) -> None:
        """End the board; ``start`` does not start it again."""
        with self._lock:
            self.stopping.set()
            process, self._process = self._process, None
        if process is not None:
            self._end(process)

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def show(url: str) -> bool:
    """Open an address in the browser of this desktop; False where there is none, as over ssh or in CI."""
    desktop = sys.platform in {"darwin", "win32"} or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(desktop) and "CI" not in os.environ and webbrowser.open(url)
