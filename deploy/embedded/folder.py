"""The data folder: made, checked, locked, and emptied of what is the stack's."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from typing import TYPE_CHECKING

from funnelwatch.deploy.embedded import postgres_place
from funnelwatch.deploy.embedded.errors import StackError
from funnelwatch.schemas.settings import STACK_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOCK_FILE = "stack.lock"
LOCK_TIMEOUT_S = 600.0
LEAST_FREE_BYTES = 300_000_000
"""An empty stack takes about 100 MB; with less than this it would run full at once."""
OURS = ("kafka", "tansu", "redis", "passwords", "logs", "cache", "faust")
OTHER_FOLDER = "name another folder with FUNNELWATCH_DATA_DIR"


def make(data_dir: Path) -> None:
    """Make the folder if need be, and see that it can be written and has room.

    Raises:
        StackError: it cannot be.
    """
    try:
        # As root PostgreSQL's unprivileged user must pass to its own folder below; nobody else may list it.
        data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data_dir):
            pass
    except OSError as error:
        raise StackError(
            f"The data folder {data_dir} cannot be written ({error.strerror}): give this user write permission, or "
            f"{OTHER_FOLDER}."
        ) from error
    free = shutil.disk_usage(data_dir).free
    if free < LEAST_FREE_BYTES:
        raise StackError(
            f"The disk of the data folder {data_dir} is full: {free / 1e6:.0f} MB are free, the stack needs "
            f"{LEAST_FREE_BYTES / 1e6:.0f} MB. Free some space, or {OTHER_FOLDER}."
        )


@contextlib.contextmanager
def locked(data_dir: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder's lock, so that only one process at a time starts or ends services; waits for the other.

    The system releases the lock of a process that dies.

    Raises:
        StackError: another process has held it for too long.
    """
    path = data_dir / LOCK_FILE
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    reported = False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same_file(handle, path):
                break
            os.close(handle)  # a purge has deleted it meanwhile
            continue
        except BlockingIOError:
            os.close(handle)
        if not reported:
            report(f"another command is starting or ending the stack of {data_dir}: waiting for it")
            reported = True
        if time.monotonic() > deadline:
            raise StackError(f"Another command has held {path} for {LOCK_TIMEOUT_S:.0f} s: end it, then try again.")
        time.sleep(0.1)
    try:
        yield
    finally:
        os.close(handle)


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def purge(data_dir: Path) -> None:
    """Delete what the stack has made in the folder, and the folder itself if nothing else is in it.

    Only names of the stack are deleted: the folder may be one that holds other things.
    """
    postgres_place.remove(data_dir)
    for name in OURS:
        shutil.rmtree(data_dir / name, ignore_errors=True)
    for leftover in [*data_dir.glob(f"{STACK_FILE}*"), data_dir / LOCK_FILE]:
        leftover.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        data_dir.rmdir()
