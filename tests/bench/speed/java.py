"""Kafka Streams: one Java file, compiled when the bench runs, with jars from Maven Central."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from funnelwatch.schemas.redaction import revealed
from tests.bench.speed.contenders import PROGRAMS, program

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.speed.contenders import Race, Took

SOURCES = PROGRAMS / "streams"
SCHEMA = PROGRAMS.parents[2] / "schemas" / "funnel_event.avsc"
FETCH_S, COMPILE_S = 600.0, 120.0


def kafka_streams() -> Callable[[Race], Took]:
    """Compile it and say how it is run.

    Raises:
        RuntimeError: Java or Maven is missing, or the jars cannot be had; the message says which.
    """
    for needed in ("javac", "java", "mvn"):
        if not shutil.which(needed):
            raise RuntimeError(f"{needed} is missing (apt install openjdk-17-jdk-headless maven)")
    folder = Path(tempfile.gettempdir()) / "funnelwatch-bench-streams"
    folder.mkdir(exist_ok=True)
    shutil.copy(SOURCES / "pom.xml", folder)
    if not (folder / "jars").exists():
        _call(
            ["mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=fetched"],
            folder,
            FETCH_S,
        )
        (folder / "fetched").rename(folder / "jars")
    classpath = f"{folder / 'jars'}/*:{folder}"
    _call(["javac", "-cp", classpath, "-d", str(folder), str(SOURCES / "Count.java")], folder, COMPILE_S)

    def run(race: Race) -> Took:
        own = race.settings
        database = urlsplit(revealed(own.timescale_url))
        arguments = [
            own.kafka_bootstrap_servers,
            own.events_topic,
            own.consumer_group,
            f"jdbc:postgresql://{database.hostname}:{database.port}{database.path}",
            database.username or "",
            str(race.events),
            str(race.folder),
            str(SCHEMA),
        ]
        return program(["java", "-Xmx1g", "-cp", classpath, "Count", *arguments])(race)

    return run


def _call(command: list[str], folder: Path, timeout_s: float) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{command[0]} took more than {timeout_s:.0f} s") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise RuntimeError(f"{command[0]} failed: {said[0] if said else f'exit code {done.returncode}'}")
