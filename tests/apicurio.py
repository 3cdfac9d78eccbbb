"""A real schema registry: Apicurio, from Maven Central, which speaks Confluent's API; in memory, ended by its id."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from funnelwatch.deploy.embedded.errors import StackError
from funnelwatch.deploy.embedded.java import find_java
from funnelwatch.deploy.embedded.kafka_jars import cache
from funnelwatch.deploy.embedded.ports import HOST, free_port
from tests.programs import answers
from tests.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = "3.0.9"
ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
FETCH_S = 240
API = "/apis/ccompat/v7"


class NoRegistryError(Exception):
    """It is not to be had here; says why."""


def fetched(folder: Path) -> Path:
    """The folder of its jars, 105 MB, fetched once for every clone of this user.

    Raises:
        NoRegistryError: Maven is not here, or does not get it in time.
    """
    jar = folder / f"apicurio-registry-app-{VERSION}-runner.jar"
    if jar.exists():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise NoRegistryError("Maven (mvn) is not on PATH")
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        subprocess.run(
            [maven, "-q", "-B", "dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={half}"],
            check=True, timeout=FETCH_S, capture_output=True, cwd=folder.parent,
        )  # fmt: skip
        [archive] = half.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(half, filter="data")
        archive.unlink()
        if not jar.exists():
            half.rename(folder)
    except (subprocess.SubprocessError, OSError, ValueError, tarfile.TarError) as error:
        said = getattr(error, "stdout", b"") or b""
        raise NoRegistryError(f"Maven does not get {ARTIFACT}: {error} {said.decode()[:300]}") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return folder


@contextmanager
def apicurio(log: Path) -> Iterator[str]:
    """A running registry, empty; the address of its API as Confluent's.

    Raises:
        NoRegistryError: it is not to be had here.
    """
    try:
        java = find_java(os.environ)
    except StackError as error:
        raise NoRegistryError(str(error)) from error
    folder = fetched(cache(os.environ, log.parent).with_name(f"apicurio-{VERSION}"))
    port = free_port()
    arguments = [f"-Dquarkus.http.port={port}", f"-Dquarkus.http.host={HOST}", "-Xmx300m", "-XX:TieredStopAtLevel=1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(java), *arguments, "-jar", f"apicurio-registry-app-{VERSION}-runner.jar"],
            cwd=folder, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    url = f"http://{HOST}:{port}{API}"
    try:
        wait_until(lambda: process.poll() is not None or answers(f"{url}/subjects"), "Apicurio answers", 200)
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        process.kill()
        process.wait(60)
