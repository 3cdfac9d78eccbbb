"""Processes of the embedded stack: started apart from the terminal, recognised for certain, ended by id.

A process id alone is not an identity, because the system gives it to another process later. A process counts as ours
when its start time is the recorded one, or when its environment carries the mark of the data folder.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from funnelwatch.deploy.embedded import private
from funnelwatch.deploy.embedded.errors import CancelledError, StackError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from threading import Event

MARK = "FUNNELWATCH_STACK_OF"
"""Environment variable that every process of a stack carries: the data folder that it belongs to."""

POLL_S = 0.02
CLOCK_JITTER_S = 2.0
"""The start time of a process is relative to the boot time, which moves when the clock is corrected."""
LOG_LIMIT_BYTES = 10_000_000
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""The only environment variables that a server inherits: its users may read its environment, and every other variable
may be a secret."""

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Servers that this very process started, so that they can be reaped when they end."""


@dataclass(frozen=True)
class Command:
    """How to run a program: its arguments, what its environment has more, its input, its folder, and as whom."""

    args: Sequence[str | Path]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    """Text for its stdin; a password goes this way, because every user sees the arguments of a process."""
    user: tuple[int, int] | None = None
    """uid and gid to change to (only root can); None: stay who we are."""


def spawn(command: Command, log: Path, mark: str) -> psutil.Process:
    """Start a server in a session of its own, so that the terminal's Ctrl-C does not reach it; output goes to ``log``.

    Raises:
        StackError: the program cannot be executed.
    """
    popen = _popen(command, log, {MARK: mark})
    _children[popen.pid] = popen
    return psutil.Process(popen.pid)


def run(command: Command, log: Path, cancel: Event, timeout_s: float) -> int:
    """Run a tool to its end and return its exit code; output is appended to ``log``.

    Raises:
        CancelledError: ``cancel`` was set; the tool and its children have been killed.
        StackError: it took longer than ``timeout_s`` (killed as well) or cannot be executed.
    """
    popen = _popen(command, log, {})
    deadline = time.monotonic() + timeout_s
    try:
        while popen.poll() is None:
            if cancel.wait(POLL_S):
                raise CancelledError(f"{command.args[0]} was interrupted")
            if time.monotonic() > deadline:
                raise StackError(f"{command.args[0]} did not end within {timeout_s:.0f} s; see {log}")
    finally:
        if popen.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()
    return popen.returncode


def _popen(command: Command, log: Path, more_env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
    if command.user is not None:
        env.pop("HOME", None)  # another user's
    env |= {**command.env, **more_env}
    uid, gid = command.user or (None, None)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
            log.replace(log.with_suffix(".old.log"))
        with private.appending(log) as output, _input(command.stdin) as given:
            return subprocess.Popen(  # noqa: S603 - the arguments are ours
                [str(arg) for arg in command.args],
                cwd=command.cwd,
                env=env,
                stdin=given,
                stdout=output,
                stderr=output,
                start_new_session=True,
                user=uid,
                group=gid,
                extra_groups=[] if command.user else None,
            )
    except OSError as error:
        raise StackError(f"{command.args[0]} cannot be run: {error.strerror or error}") from error


@contextlib.contextmanager
def _input(content: bytes) -> Iterator[int]:
    """A file descriptor that has this content, which fits into a pipe's buffer."""
    if not content:
        yield subprocess.DEVNULL
        return
    read_end, write_end = os.pipe()
    try:
        with open(write_end, "wb") as pipe:  # noqa: PTH123 - not a path
            pipe.write(content)
        yield read_end
    finally:
        os.close(read_end)


def alive(pid: int | None, created: float | None) -> psutil.Process | None:
    """The process of that id if it runs and started at that time (epoch seconds), else None."""
    if pid is None or created is None:
        return None
    _reap(pid)
    try:
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - created) < CLOCK_JITTER_S:
            return process
    except psutil.Error:
        pass
    return None


def running(process: psutil.Process) -> bool:
    """Whether it still runs; one that ended but was not waited for does not."""
    _reap(process.pid)
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _reap(pid: int) -> None:
    """Reap a server that has ended: the id of a zombie still seems alive to other processes."""
    if pid in _children:
        _children[pid].poll()


def exit_code(process: psutil.Process) -> int | None:
    """How a server that this process started ended; None where that is not known."""
    popen = _children.get(process.pid)
    return popen.poll() if popen else None


def listens(process: psutil.Process, port: int) -> bool:
    """Whether this very process listens on the port: an answer alone may be another program's."""
    try:
        return any(
            link.status == psutil.CONN_LISTEN and link.laddr.port == port
            for link in process.net_connections(kind="tcp")
        )
    except psutil.Error:
        return False


def strays(mark: str | None, postgres_data: Path | None) -> list[psutil.Process]:
    """Processes of the stack of this data folder, whether they were recorded or not.

    PostgreSQL's children overwrite their environment with their title; they are known by their folder instead.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            marked = mark is not None and process.environ().get(MARK) == mark
            if not marked and postgres_data is not None and process.name() == "postgres":
                marked = process.cwd() == str(postgres_data)
            if marked:
                found.append(process)
    return found


def stop(process: psutil.Process, stop_signal: signal.Signals, grace_s: float) -> None:
    """End a server: its signal, ``grace_s`` seconds of grace, then KILL; returns when it is gone."""
    for step, timeout_s in ((stop_signal, grace_s), (signal.SIGKILL, 10.0)):
        if not running(process):
            break
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(step)
        wait_gone([process], timeout_s)
    popen = _children.pop(process.pid, None)
    if popen is not None:
        popen.wait()


def wait_gone(processes: Iterable[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait until they have ended; returns those that have not after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    left = list(processes)
    while True:
        left = [process for process in left if running(process)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(POLL_S)


def tail(log: Path, offset: int = 0, lines: int = 12) -> str:
    """The last lines of a log, from the byte ``offset`` on, indented."""
    try:
        with log.open("rb") as file:
            file.seek(max(offset, log.stat().st_size - 20_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join("    " + line for line in text.splitlines()[-lines:])
