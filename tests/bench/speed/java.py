"""Contenders in Java: a folder of sources each, compiled when the bench runs, with jars from Maven Central."""

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

    from funnelwatch.schemas.settings import Settings
    from tests.bench.speed.contenders import Race, Took

SCHEMA = PROGRAMS.parents[2] / "schemas" / "funnel_event.avsc"
FETCH_S, COMPILE_S = 600.0, 120.0
OPENS = ("util", "lang", "net", "io", "nio", "text", "time", "util.concurrent", "lang.reflect")
"""Packages of Java that Flink's serializers read by reflection; Flink's start scripts open them as well."""


def kafka_streams() -> Callable[[Race], Took]:
    """Compile it and say how it is run.

    Raises:
        RuntimeError: Java or Maven is missing, or the jars cannot be had; the message says which.
    """
    classpath = _compiled("streams")

    def run(race: Race) -> Took:
        arguments = [*_given(race.settings), str(race.events), str(race.folder), str(SCHEMA)]
        return program(["java", "-Xmx1g", "-cp", classpath, "Count", *arguments])(race)

    return run


def flink_sql() -> Callable[[Race], Took]:
    """Compile the decoder of events, and say how the SQL is run, on Flink in a process of its own.

    Raises:
        RuntimeError: as of ``kafka_streams``.
    """
    classpath = _compiled("flink")
    opens = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in OPENS]

    def run(race: Race) -> Took:
        arguments = [*_given(race.settings), str(race.folder), str(SCHEMA), str(PROGRAMS / "flink" / "job.sql")]
        return program(["java", "-Xmx1g", *opens, "-cp", classpath, "Job", *arguments], says_end=False)(race)

    return run


def java_versions() -> dict[str, str]:
    """Version of each framework, by its name."""
    found = {}
    for name, artifact in (("streams", "kafka-streams"), ("flink", "flink-clients")):
        pom = (PROGRAMS / name / "pom.xml").read_text()
        found[artifact] = pom.partition(f"<artifactId>{artifact}</artifactId><version>")[2].partition("<")[0]
    return {"kafka-streams": found["kafka-streams"], "flink": found["flink-clients"]}


def _given(own: Settings) -> list[str]:
    """Arguments that every program takes first."""
    database = urlsplit(revealed(own.timescale_url))
    return [
        own.kafka_bootstrap_servers,
        own.events_topic,
        own.consumer_group,
        f"jdbc:postgresql://{database.hostname}:{database.port}{database.path}",
        database.username or "",
    ]


def _compiled(name: str) -> str:
    """Compile a contender; its classpath. Maven fetches the jars once, and again when pom.xml changes."""
    for needed in ("javac", "java", "mvn"):
        if not shutil.which(needed):
            raise RuntimeError(f"{needed} is missing (apt install openjdk-17-jdk-headless maven)")
    sources = PROGRAMS / name
    folder = Path(tempfile.gettempdir()) / f"funnelwatch-bench-{name}"
    folder.mkdir(exist_ok=True)
    if not (folder / "jars").exists() or (folder / "pom.xml").read_bytes() != (sources / "pom.xml").read_bytes():
        for old in ("jars", "fetched"):
            shutil.rmtree(folder / old, ignore_errors=True)
        shutil.copy(sources / "pom.xml", folder)
        _call(
            ["mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=fetched"],
            folder,
            FETCH_S,
        )
        (folder / "fetched").rename(folder / "jars")
    classpath = f"{folder / 'jars'}/*:{folder}"
    java = [str(path) for path in sorted(sources.glob("*.java"))]
    _call(["javac", "-cp", classpath, "-d", str(folder), *java], folder, COMPILE_S)
    if (sources / "META-INF").exists():
        shutil.copytree(sources / "META-INF", folder / "META-INF", dirs_exist_ok=True)
    return classpath


def _call(command: list[str], folder: Path, timeout_s: float) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{command[0]} took more than {timeout_s:.0f} s") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise RuntimeError(f"{command[0]} failed: {said[0] if said else f'exit code {done.returncode}'}")
