"""The passwords of a stack's servers: random, made once, in files that only the user who runs the stack may read."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from funnelwatch.deploy.embedded import private
from funnelwatch.schemas.redaction import know

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "passwords"
BYTES = 24


def password(data_dir: Path, name: str) -> str:
    """The password of that name, made if it is not there: letters, digits, ``-`` and ``_``, as addresses take them.

    Raises:
        OSError: it can be neither read nor made.
    """
    folder = data_dir / FOLDER
    private.folder(folder)
    file = folder / name
    try:
        found = file.read_text().strip()
    except FileNotFoundError:
        found = ""
    if not found:
        found = secrets.token_urlsafe(BYTES)
        private.write(file, f"{found}\n")
    know(found)
    return found
