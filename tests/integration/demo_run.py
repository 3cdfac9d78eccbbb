"""A demo in a process of its own, for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from funnelwatch.schemas.settings import PREFIX
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
        # A look goes through all processes of the machine.
        ended = self.process.poll
        wait_until(lambda: self.said(text) or ended() is not None, f"the demo says {text!r}", timeout_s, 0.2)
        assert self.said(text), self.err.read_text(errors="replace")

    def left_over(self) -> list[str]:
        """Processes that it started and that still run."""
        return [str(child) for child in self.seen.values() if arguments(child)]


def arguments(process: psutil.Process) -> list[str]:
    """What a process was started with; empty where it has ended."""
    try:
        return process.cmdline() if process.is_running() else []
    except psutil.NoSuchProcess:  # which a process that nobody has waited for is as well
        return []
