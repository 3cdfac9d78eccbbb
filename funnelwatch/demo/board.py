"""The board of a demo: ``funnelwatch board`` as a process of its own, on the demo's servers."""

from __future__ import annotations

import os
import subprocess
import sys
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
        output: where it writes what it says.
    """

    def __init__(self, environment: Mapping[str, str], output: BinaryIO) -> None:
        self._environment = {**os.environ, **environment}
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str | None:
        """Start it; its address, or None where it does not come up: a demo goes on without."""
        for preferred in (Settings.model_fields["board_port"].default, None):  # another may be faster with the first
            url = f"http://{HOST}:{free_ports({'board': preferred})['board']}/"
            if self._answers(self._launch(url), url):
                return url
            self.stop()
        return None

    def _launch(self, url: str) -> subprocess.Popen[bytes]:
        port = url.rstrip("/").rpartition(":")[2]
        process = self._process = subprocess.Popen(  # noqa: S603 - our own program
            [*PROGRAM, "board", "--host", HOST, "--port", port],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            # A terminal's Ctrl-C is for the demo, which ends the board.
            start_new_session=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - one call of libc, no lock is taken
        )
        return process

    @staticmethod
    def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
        """Wait until it answers; whether it does."""
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
        """End it."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
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
