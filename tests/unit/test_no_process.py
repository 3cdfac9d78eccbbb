"""The guard that keeps unit tests within their own process."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests import no_process as guard
from tests.no_process import ProcessStartedError, no_process

if TYPE_CHECKING:
    from collections.abc import Callable

STARTS: dict[str, Callable[[], object]] = {
    "subprocess": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
    "shell": lambda: os.system("true"),
    "fork": lambda: os.fork() or os._exit(0),
    "posix_spawn": lambda: os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}),
    "multiprocessing by fork": multiprocessing.get_context("fork").Process(target=len, args=("",)).start,
    "multiprocessing by spawn": multiprocessing.get_context("spawn").Process(target=len, args=("",)).start,
}


@pytest.mark.parametrize("way", STARTS)
def test_a_test_that_starts_a_process_fails_at_that_call(way: str) -> None:
    """Every way in which Python starts a process raises before the process exists."""
    with pytest.raises(ProcessStartedError, match="tests/integration"), no_process():
        STARTS[way]()


def test_a_test_whose_code_catches_the_error_fails_all_the_same() -> None:
    """The guard raises again when the test ends."""
    with pytest.raises(ProcessStartedError, match=r"subprocess\.Popen"), no_process(), contextlib.suppress(Exception):
        subprocess.run(["true"], check=True)


def test_every_test_of_this_folder_runs_under_the_guard() -> None:
    """The fixture is in force without being named; its record is cleared, or this test would fail."""
    [started] = guard._watched
    with pytest.raises(ProcessStartedError):
        subprocess.run(["true"], check=True)
    assert started.pop().startswith("subprocess.Popen")
