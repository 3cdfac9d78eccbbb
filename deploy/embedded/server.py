"""The contract of a program that the stack can run, and the one way in which each is started."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from funnelwatch.deploy.embedded import process
from funnelwatch.deploy.embedded.errors import CancelledError, PortTakenError, StackError
from funnelwatch.deploy.embedded.ports import free_port
from funnelwatch.deploy.embedded.state import ServiceState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from threading import Event

    import psutil

PORT_TRIES = 3
DISK_FULL = "No space left on device"
PORT_TAKEN = ("Address already in use", "AddrInUse")


@dataclass(frozen=True)
class Context:
    """The context of a server's start: folder, progress report, and cancellation."""

    data_dir: Path
    """Absolute."""
    environ: Mapping[str, str]
    report: Callable[[str], None]
    cancel: Event

    @property
    def mark(self) -> str:
        """The value by which the processes of this stack are recognised."""
        return str(self.data_dir)

    def log(self, service: str) -> Path:
        """The log file of a service."""
        return self.data_dir / "logs" / f"{service}.log"


class Server(ABC):
    """A program that can serve Kafka, PostgreSQL or Redis on one port of 127.0.0.1."""

    service: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    grace_s: ClassVar[float] = 15.0
    """How long it may take to end after ``stop_signal`` before it is killed, s."""
    start_s: ClassVar[float] = 60.0
    """How long it may take from the start until it answers, s."""

    def __init__(self, context: Context, program: str, why: str) -> None:
        """``program`` is name and version, ``why`` the reason for taking this one."""
        self.context = context
        self.program = program
        self.why = why
        self.notes: list[str] = []

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.context.log(self.service)

    @abstractmethod
    def prepare(self) -> None:
        """Make its data ready; may take long, and is harmless when they are ready."""

    @abstractmethod
    def command(self, port: int) -> process.Command:
        """How to run it on ``port``."""

    @abstractmethod
    def answers(self, port: int) -> bool:
        """Whether it serves requests now; a negative answer comes within two seconds."""

    @abstractmethod
    def url(self, port: int) -> str:
        """Its address, as the settings want it."""

    def config(self) -> dict[str, str]:
        """Properties of librdkafka that a client of this Kafka needs beside its address."""
        return {}

    def after_start(self, port: int) -> bool:
        """Set up what needs the running server; returns whether it must be started again for that to take effect."""
        return False


def launch(server: Server, port: int, started: Callable[[ServiceState], None]) -> ServiceState:
    """Start a server and return when it answers; another port is taken when ``port`` turns out to be in use.

    ``started`` is called as soon as there is a process, so that it can be ended whatever happens next.

    Raises:
        StackError: it did not start, with the last lines of its log; its process is gone.
    """
    server.context.report(f"{server.program}: starting ({server.why})")
    begin = time.monotonic()
    server.prepare()
    for attempt in range(PORT_TRIES):
        try:
            state = _launch(server, port, started)
            break
        except PortTakenError:
            if attempt == PORT_TRIES - 1:
                raise
            port = free_port()
    server.context.report(f"{server.program}: ready in {time.monotonic() - begin:.1f} s at {state.shown_url}")
    return state


def _launch(server: Server, port: int, started: Callable[[ServiceState], None]) -> ServiceState:
    again = True
    while again:
        offset = server.log.stat().st_size if server.log.exists() else 0
        running = process.spawn(server.command(port), server.log, server.context.mark)
        state = ServiceState(
            service=server.service,
            program=server.program,
            why=server.why,
            url=server.url(port),
            port=port,
            pid=running.pid,
            created=running.create_time(),
            log=str(server.log),
            notes=server.notes,
            config=server.config(),
        )
        started(state)
        try:
            _wait_ready(server, running, port, offset)
            again = server.after_start(port)
        except BaseException:
            process.stop(running, server.stop_signal, 1.0)
            raise
        if again:
            process.stop(running, server.stop_signal, server.grace_s)
    state.notes = server.notes
    return state


def _wait_ready(server: Server, running: psutil.Process, port: int, offset: int) -> None:
    deadline = time.monotonic() + server.start_s
    while not (process.listens(running, port) and server.answers(port)):
        if not process.running(running):
            raise failure(server, offset, f"ended by itself (exit code {process.exit_code(running)})", port)
        if time.monotonic() > deadline:
            raise failure(server, offset, f"did not answer on port {port} within {server.start_s:.0f} s", port)
        if server.context.cancel.wait(process.POLL_S):
            raise CancelledError(f"{server.program} was interrupted")


def failure(server: Server, offset: int, what: str, port: int | None = None) -> StackError:
    """The error for a failed program, with the lines of its log since the byte ``offset``."""
    lines = process.tail(server.log, offset)
    if port is not None and any(words in lines for words in PORT_TAKEN):
        return PortTakenError(f"{server.program} could not have port {port}: another program uses it. Try again.")
    advice = (
        f"The disk of {server.context.data_dir} is full: free some space, or name a folder on another disk with "
        "FUNNELWATCH_DATA_DIR."
        if DISK_FULL in lines
        else f"Its log is {server.log}."
    )
    said = f" Its last words:\n{lines}\n" if lines else " It left no word in its log. "
    return StackError(f"{server.program} {what}.{said}{advice}")
