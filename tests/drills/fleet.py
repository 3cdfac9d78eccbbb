"""The workers of a drill, as processes: started, killed, frozen, asked to leave, started again when they die."""

from __future__ import annotations

import ctypes
import http
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.schemas.settings import PREFIX, Settings
from funnelwatch.schemas.web_client import Unanswered, ask
from funnelwatch.sinks import failpoints

if TYPE_CHECKING:
    from pathlib import Path

END_S = 60.0
PR_SET_PDEATHSIG = 1
REASON = re.compile(r"[\w.]+(Error|Exception)\b|\[.*\[(ERROR|CRITICAL)\]")
"""Lines with errors, and with the exceptions of tracebacks."""

LAST_LINES = 8
"""Lines of the log of a worker that ended by itself; its folder is removed with the servers."""

PAUSE_S = 0.3
"""A worker that has died is started again after this, as its supervisor would, s."""


@dataclass(slots=True)
class Worker:
    """One place for a worker, and the process that has it now."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    frozen: bool = False
    leaving: bool = False
    wanted: bool = True
    start_at: float = 0.0
    port: int = 0
    exits: list[int] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether there is a process, frozen or not."""
        return self.process is not None and self.process.poll() is None


class Fleet:
    """Some workers. For the thread that made it: on Linux a worker dies with the thread that started it.

    Args:
        settings: theirs, all of them.
        count: how many.
        folder: for logs and fault files.
    """

    def __init__(self, settings: Settings, count: int, folder: Path) -> None:
        self._settings = settings
        self.workers = [Worker(number) for number in range(count)]
        self.folder = folder
        self.unexpected: list[str] = []
        self.longest_leave_s = 0.0
        self.starts = 0
        self.environment = environment(settings, folder)

    def start(self) -> None:
        """Start all that are wanted and do not run."""
        for worker in self.workers:
            if worker.wanted and not worker.running:
                self._start(worker)

    def tend(self) -> None:
        """Bury the dead and start them again; note those that nobody had killed."""
        now = time.monotonic()
        for worker in self.workers:
            if worker.process is not None and not worker.running:
                self._bury(worker, now)
            if worker.process is None and worker.wanted and now >= worker.start_at:
                self._start(worker)

    def _start(self, worker: Worker) -> None:
        worker.port = free_port()
        with (self.folder / f"worker-{worker.number}.log").open("ab") as log:
            worker.process = subprocess.Popen(
                [sys.executable, "-m", "funnelwatch.stream", "worker", "--loglevel", "info"],
                cwd=self.folder,
                env={**self.environment, f"{PREFIX}WEB_PORT": str(worker.port)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one call of libc, no lock is taken
            )
        worker.leaving = worker.frozen = False
        self.starts += 1

    def _bury(self, worker: Worker, now: float) -> None:
        assert worker.process is not None
        code = worker.process.returncode
        worker.exits.append(code)
        # One that is asked to leave before it has set up its handlers ends by the signal itself.
        if code != -signal.SIGKILL and not (worker.leaving and code in (0, -signal.SIGTERM)):
            log = (self.folder / f"worker-{worker.number}.log").read_text(errors="replace").splitlines()
            # The reason stands far above the end: everything is stopped after it.
            reasons = [line for line in log if REASON.match(line)]
            last = " / ".join((reasons or log)[-LAST_LINES:])
            self.unexpected.append(f"worker {worker.number} ended by itself with exit code {code}: {last}")
        worker.process, worker.start_at = None, now + PAUSE_S

    def running(self) -> list[Worker]:
        """Those that run and are neither frozen nor leaving."""
        return [worker for worker in self.workers if worker.running and not worker.frozen and not worker.leaving]

    def kill(self, worker: Worker) -> None:
        """End it at once."""
        if worker.process is not None and worker.running:
            worker.process.kill()
            worker.process.wait(END_S)
            self.tend()

    def freeze(self, worker: Worker) -> None:
        """Stop it where it is: for the others it is gone."""
        if worker.process is not None and worker.running:
            worker.process.send_signal(signal.SIGSTOP)
            worker.frozen = True

    def thaw(self, worker: Worker) -> None:
        """Let it go on, as if nothing had happened."""
        if worker.process is not None and worker.running:
            worker.process.send_signal(signal.SIGCONT)
        worker.frozen = False

    def leave(self, worker: Worker) -> None:
        """Ask it to end; it is started again by ``tend`` if it is still wanted."""
        if worker.process is not None and worker.running:
            worker.leaving = True
            threading.Thread(target=self._time_leave, args=[worker.process, time.monotonic()], daemon=True).start()
            worker.process.terminate()

    def _time_leave(self, process: subprocess.Popen[bytes], asked_at: float) -> None:
        """Note how long a process takes to end, which ``tend`` may see much later."""
        process.wait()
        self.longest_leave_s = max(self.longest_leave_s, time.monotonic() - asked_at)

    def arm(self, action: str, point: str) -> None:
        """Let the next worker that comes to a failpoint die (``kill``) or freeze (``stop``) there."""
        assert point in failpoints.POINTS, point
        (self.folder / f"{action}.{point}").touch()

    def disarm(self, action: str, point: str) -> bool:
        """Take that back; False if a worker has taken it."""
        try:
            (self.folder / f"{action}.{point}").unlink()
        except FileNotFoundError:
            return False
        return True

    def taken(self, action: str, point: str) -> Worker | None:
        """The worker that has come to an armed failpoint; its fault is then used up."""
        for done in list(self.folder.glob(f"done.{action}.{point}.*")):
            pid = int(done.name.rpartition(".")[2])
            done.unlink()
            for worker in self.workers:
                if worker.process is not None and worker.process.pid == pid:
                    worker.frozen = action == "stop"
                    return worker
        return None

    def ready(self, worker: Worker) -> bool:
        """Whether it says at /readyz that it does its part."""
        try:
            return ask(f"http://{HOST}:{worker.port}/readyz", timeout_s=10).status == http.HTTPStatus.OK
        except Unanswered:
            return False

    def memory(self) -> dict[int, int]:
        """Resident bytes by process id."""
        found = {}
        for worker in self.workers:
            process = worker.process
            if process is not None:
                try:
                    found[process.pid] = psutil.Process(process.pid).memory_info().rss
                except psutil.Error:
                    continue
        return found

    def stop(self) -> list[int]:
        """Ask all to end and wait; their exit codes."""
        for worker in self.workers:
            worker.wanted = False
            self.thaw(worker)
            self.leave(worker)
        codes = []
        for worker in self.workers:
            if worker.process is not None:
                try:
                    codes.append(worker.process.wait(END_S))
                except subprocess.TimeoutExpired:
                    self.unexpected.append(f"worker {worker.number} did not end within {END_S:g} s of SIGTERM")
                    worker.process.kill()
                    codes.append(worker.process.wait())
        return codes

    def end(self) -> None:
        """Kill whatever is left."""
        for worker in self.workers:
            if worker.process is not None:
                if worker.running:
                    worker.process.kill()
                worker.process.wait()
                worker.process = None


def environment(settings: Settings, folder: Path) -> dict[str, str]:
    """The environment in which a worker has exactly these settings, and looks for faults in the folder."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return env | settings.environment() | {failpoints.VARIABLE: str(folder)}


def _die_with_parent() -> None:
    """Linux: a worker whose drill is killed dies too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
