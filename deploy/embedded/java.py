"""Finding a Java that can run Apache Kafka."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from funnelwatch.deploy.embedded.errors import UnusableError

if TYPE_CHECKING:
    from collections.abc import Mapping

OLDEST = 17
"""Kafka 4 brokers need Java 17."""


def find_java(environ: Mapping[str, str]) -> Path:
    """A java of JAVA_HOME or of the PATH that is recent enough.

    Raises:
        UnusableError: there is none; the message lists the rejected ones.
    """
    rejected = []
    home = environ.get("JAVA_HOME")
    found = shutil.which("java", path=environ.get("PATH", ""))
    for candidate in ([f"{home}/bin/java"] if home else []) + ([found] if found else []):
        version = java_version(Path(candidate))
        if version is None:
            rejected.append(f"{candidate} does not run")
        elif version < OLDEST:
            rejected.append(f"{candidate} is Java {version}, Apache Kafka needs {OLDEST}")
        else:
            return Path(candidate)
    raise UnusableError("; ".join(rejected) or "Java is not on PATH")


def java_version(java: Path) -> int | None:
    """Its major version (8, 17, …), or None where it does not run."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(done.stderr + done.stdout) if done.returncode == 0 else None


def parse_version(output: str) -> int | None:
    """The major version in the output of ``java -version``: ``"17.0.15"`` is 17, ``"1.8.0_402"`` is 8."""
    match = re.search(r'version "(?:1\.)?(\d+)', output)
    return int(match[1]) if match else None
