"""Worker processes of this machine, kept running: one that dies is started again, and all end together."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STOP_S = 20.0
"""How long a worker may take to finish what it has in hand, s."""

LIVED_S = 30.0
"""A worker that lived this long is started again at once; one that dies sooner waits, longer each time."""

LONGEST_PAUSE_S = 30.0
FAILING_PAUSE_S = 8.0
"""A pause as long as this means four early deaths in a row."""

PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class _Worker:
    number: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float = 0.0
    pause_s: float = 0.5
    exits: list[int] = field(default_factory=list)

    @property
    def running(self) -> subprocess.Popen[bytes] | None:
        """The process, if it runs."""
        return self.process if self.process is not None and self.process.poll() is None else None


class Supervisor:
    """Starts worker processes and keeps them running until it is stopped.

    Args:
        processes: how many.
        environment: settings of the workers, over this process's own; worker i has the web port ``web_port + i``.
        web_port: the first worker's; 0 for free ones.
        output: where the workers write; None for where this process does.
        report: called with a sentence when a worker starts, dies or ends.
        log_level: the workers' log level.
    """

    def __init__(
        self,
        processes: int,
        *,
        environment: Mapping[str, str] | None = None,
        web_port: int = 0,
        output: IO[bytes] | None = None,
        report: Callable[[str], None] = lambda _: None,
        log_level: str = "INFO",
    ) -> None:
        self._environment = {**os.environ, **(environment or {})}
        self._web_port = web_port
        self._output = output
        self._report = report
        self._log_level = log_level
        self._workers = [_Worker(number) for number in range(processes)]
        self._stopping = threading.Event()

    @property
    def restarts(self) -> int:
        """How often a worker died and was, or will be, started again."""
        return sum(len(worker.exits) for worker in self._workers)

    @property
    def failing(self) -> bool:
        """Whether a worker has died again and again as soon as it was started."""
        return any(worker.pause_s >= FAILING_PAUSE_S for worker in self._workers)

    def run(self) -> None:
        """Keep the workers running until ``stop`` is called, from a signal handler or another thread."""
        try:
            while not self._stopping.wait(0.2):
                self.tend()
        finally:
            self.end()

    def tend(self) -> None:
        """Start each worker that does not run and may start."""
        now = time.monotonic()
        for worker in self._workers:
            if worker.process is not None and not worker.running:
                self._bury(worker, now)
            if worker.process is None and now >= worker.start_at:
                self._start(worker, now)

    def stop(self) -> None:
        """Make ``run`` end the workers and return."""
        self._stopping.set()

    def end(self) -> None:
        """End all workers: each finishes what it has in hand; one that does not in time is killed."""
        for worker in self._workers:
            if process := worker.running:
                process.terminate()
        deadline = time.monotonic() + STOP_S
        for worker in self._workers:
            if worker.process is None:
                continue
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._report(f"worker {worker.number} did not end within {STOP_S:g} s and is killed")
                worker.process.kill()
                worker.process.wait()
            worker.process = None

    def _start(self, worker: _Worker, now: float) -> None:
        port = self._web_port + worker.number if self._web_port else 0
        worker.process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "funnelwatch.stream", "worker", "--loglevel", self._log_level.lower()],
            env={**self._environment, "FUNNELWATCH_WEB_PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            # A terminal's Ctrl-C is for the supervisor, which ends the workers in good order.
            start_new_session=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - one call of libc, no lock is taken
        )
        worker.started = now
        self._report(f"worker {worker.number} runs, process {worker.process.pid}")

    def _bury(self, worker: _Worker, now: float) -> None:
        assert worker.process is not None
        code = worker.process.returncode
        worker.exits.append(code)
        worker.pause_s = 0.5 if now - worker.started > LIVED_S else min(worker.pause_s * 2, LONGEST_PAUSE_S)
        worker.start_at = now + worker.pause_s
        worker.process = None
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._report(f"worker {worker.number} {how}; it is started again in {worker.pause_s:g} s")


def end_with_parent() -> None:
    """Linux: a process whose parent is killed ends too, so that nothing is left behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
