"""Files that only the user who runs the stack may read, and the random passwords of its servers in such files."""

from __future__ import annotations

import os
import secrets
from typing import IO, TYPE_CHECKING

from funnelwatch.schemas.redaction import know

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "passwords"
BYTES = 24


def write(file: Path, text: str) -> None:
    """Write a file with mode 0600, also where one with another mode was; readers see the old or the new content."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:  # noqa: PTH123
        output.write(text)
    temporary.replace(file)


def folder(path: Path) -> None:
    """Make a folder that only this user may enter; one that others may enter is closed to them."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def appending(file: Path) -> IO[bytes]:
    """Open a file to append to it; a new one gets mode 0600."""
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def password(data_dir: Path, name: str) -> str:
    """The password of that name, made if it is not there: letters, digits, ``-`` and ``_``, as addresses take them.

    Raises:
        OSError: it can be neither read nor made.
    """
    folder(data_dir / FOLDER)
    file = data_dir / FOLDER / name
    try:
        found = file.read_text().strip()
    except FileNotFoundError:
        found = ""
    if not found:
        found = secrets.token_urlsafe(BYTES)
        write(file, f"{found}\n")
    know(found)
    return found
