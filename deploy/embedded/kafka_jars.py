"""The jars of Apache Kafka, fetched with Maven once and kept for every clone of this user.

The cache is ``$XDG_CACHE_HOME/funnelwatch/kafka-VERSION`` (``~/.cache`` by default; the data folder where neither can
be written). A manifest of sizes and checksums stands next to the jars, so that a half or damaged download is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from funnelwatch.deploy.embedded import process
from funnelwatch.deploy.embedded.errors import UnusableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.deploy.embedded.server import Context

VERSION = "4.1.0"
LOG4J_VERSION = "2.24.3"
MANIFEST = "manifest.json"
MAVEN_TIMEOUT_S = 600.0

POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>funnelwatch</groupId><artifactId>embedded-kafka</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>{LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""
"""Kafka, and what it needs to write its log: the published artifact leaves the choice of a logger open."""


def jars(context: Context, java: Path) -> Path:
    """The folder of the jars, fetched if it is missing or damaged.

    Raises:
        UnusableError: they are not there and cannot be fetched; says why.
        CancelledError: the start was interrupted.
    """
    folder = cache(context.environ, context.data_dir)
    damaged = damage(folder)
    if damaged is None:
        return folder
    maven = shutil.which("mvn", path=context.environ.get("PATH", ""))
    if maven is None:
        raise UnusableError(f"Maven (mvn) is not on PATH, and Apache Kafka is not in the cache: {damaged}")
    if folder.exists():
        context.report(f"apache-kafka {VERSION}: {damaged}; fetching it again")
    context.report(f"apache-kafka {VERSION}: fetching 46 jars, 43 MB, with Maven, this first time only")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".kafka-{VERSION}-", dir=folder.parent) as temporary:
            fetched = _fetch(context, Path(temporary), maven, java)
            shutil.rmtree(folder, ignore_errors=True)
            fetched.rename(folder)
    except OSError as error:
        if damage(folder) is None:  # another start fetched them at the same time
            return folder
        raise UnusableError(f"Apache Kafka could not be stored in {folder}: {error.strerror or error}") from error
    return folder


def damage(folder: Path) -> str | None:
    """The damage of the jars in a folder; None: they are complete."""
    try:
        manifest: dict[str, dict[str, str | int]] = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        return f"{folder} is not there or not complete"
    except (OSError, ValueError):
        return f"{folder / MANIFEST} is damaged"
    for name, expected in manifest.items():
        try:
            if _fingerprint(folder / name) != expected:
                return f"{folder / name} is damaged"
        except OSError:
            return f"{folder / name} is missing"
    return None if manifest else f"{folder} is empty"


def _fingerprint(jar: Path) -> dict[str, str | int]:
    content = jar.read_bytes()
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _fetch(context: Context, temporary: Path, maven: str, java: Path) -> Path:
    """Fetch into a folder below ``temporary`` and write its manifest."""
    (temporary / "pom.xml").write_text(POM)
    # Maven keeps what it fetches in the home folder, where that can be written and holds nothing broken.
    repositories = [None, temporary / "repository"] if _home_is_writable() else [temporary / "repository"]
    error = ""
    folder = temporary / "jars"
    for repository in repositories:
        shutil.rmtree(folder, ignore_errors=True)
        error = _maven(context, maven, java, folder, repository)
        if not error:
            manifest = {jar.name: _fingerprint(jar) for jar in sorted(folder.glob("*.jar"))}
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
            return folder
        if "damaged" not in error:
            break
    raise UnusableError(error)


def _maven(context: Context, maven: str, java: Path, folder: Path, repository: Path | None) -> str:
    """Copy the jars into ``folder``, by the pom next to it; returns what went wrong, or nothing."""
    log = context.log("maven")
    offset = log.stat().st_size if log.exists() else 0
    args = [
        maven,
        "--quiet",
        "--batch-mode",
        "--strict-checksums",
        "-Daether.connector.connectTimeout=10000",
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
        f"-DoutputDirectory={folder}",
    ]
    if repository is not None:
        args.insert(1, f"-Dmaven.repo.local={repository}")
    # Unlike a server, Maven ends soon, and needs its user's proxies and options.
    env = {**context.environ, "JAVA_HOME": str(java.resolve().parent.parent)}
    code = process.run(process.Command(args, folder.parent, env), log, context.cancel, MAVEN_TIMEOUT_S)
    if code != 0:
        said = [line.strip() for line in process.tail(log, offset, 200).splitlines() if "ERROR" in line]
        return f"Maven could not fetch Apache Kafka ({said[0] if said else f'exit code {code}'}; {log})"
    if not list(folder.glob(f"kafka_2.13-{VERSION}.jar")):
        return f"Maven fetched no kafka_2.13-{VERSION}.jar ({log})"
    for jar in folder.glob("*.jar"):
        try:
            with zipfile.ZipFile(jar) as archive:
                broken = archive.testzip()
        except (OSError, zipfile.BadZipFile):
            broken = jar.name
        if broken:
            return f"Maven delivered a damaged {jar.name}"
    return ""


def cache(environ: Mapping[str, str], data_dir: Path) -> Path:
    """Where the jars are kept: in the first folder that can be written (or made)."""
    name = f"kafka-{VERSION}"
    home = environ.get("HOME")
    wished = [environ.get("XDG_CACHE_HOME"), f"{home}/.cache" if home else None]
    for candidate in wished:
        if not candidate:
            continue
        folder = Path(candidate) / "funnelwatch"
        there = str(folder)
        while not os.path.exists(there):  # noqa: PTH110 - unlike Path's, it takes a forbidden folder for a missing one
            there = os.path.dirname(there)  # noqa: PTH120 - as above
        if os.access(there, os.W_OK | os.X_OK):
            return folder / name
    return data_dir / "cache" / name


def _home_is_writable() -> bool:
    """Whether Maven can keep its repository: Java takes the home folder of the user's record, not of HOME."""
    try:
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return False
    repository = home / ".m2"
    return os.access(repository if repository.exists() else home, os.W_OK | os.X_OK)
