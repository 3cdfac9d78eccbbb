"""Keeps unit and property tests within their own process: a test that starts another one fails."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = frozenset({"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"})
"""Audit events of Python by which a process starts."""
ALLOWED = frozenset({"file", "uname"})
"""Python's ``platform`` asks these about the machine while libraries are imported."""
SPAWNED = "multiprocessing.popen_spawn_posix"
"""multiprocessing raises no audit event of its own when it spawns."""

_watched: list[list[str]] = []
_hooked = False


class ProcessStartedError(AssertionError):
    """A test below tests/unit or tests/property starts a process; it belongs in tests/integration."""


@contextmanager
def no_process() -> Iterator[None]:
    """Within this block no process starts.

    Raises:
        ProcessStartedError: at the call that would start one, and again at the end, should the code have caught it.
    """
    global _hooked  # noqa: PLW0603 - an audit hook cannot be removed, so that one serves all
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True
    started: list[str] = []
    _watched.append(started)
    spawn = pytest.MonkeyPatch()
    spawn.setattr("multiprocessing.util.spawnv_passfds", lambda *_: _reject(SPAWNED))
    try:
        yield
    finally:
        spawn.undo()
        _watched.remove(started)
    if started:
        raise ProcessStartedError(f"{', '.join(started)}: move the test to tests/integration")


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _watched and event in EVENTS and not (event == "subprocess.Popen" and arguments[0] in ALLOWED):
        _reject(f"{event} {arguments!s:.100}")


def _reject(start: str) -> None:
    if _watched:
        _watched[-1].append(start)
    raise ProcessStartedError(f"{start}: move the test to tests/integration")


@pytest.fixture(autouse=True)
def _no_process() -> Iterator[None]:
    """Fail the test that starts a process."""
    with no_process():
        yield
