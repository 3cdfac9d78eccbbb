"""A real TimescaleDB for tests: a server that is named, a Docker container, or one in WebAssembly from npm.

``FUNNELWATCH_TEST_TIMESCALE_URL`` names a server (its user may create databases and roles). Otherwise, where tests run
on Docker (``FUNNELWATCH_TEST_STACK=docker``), it is the container; otherwise, where Node.js and npm are, PostgreSQL
with TimescaleDB in WebAssembly (``tests/timescaledb/``): one session that all connections share, nothing kept on disk.
Where there is none of these the tests are skipped, unless ``FUNNELWATCH_TEST_TIMESCALEDB=required``, as in CI.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from funnelwatch.deploy.embedded.kafka_jars import cache
from funnelwatch.sinks.timescale.database import Connection, Database
from tests.stack import docker_is_wanted, drop_database, make_database

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = Path(__file__).parent / "timescaledb"
NPM_TIMEOUT_S = 300


class NoTimescaleError(Exception):
    """There is no TimescaleDB to be had here; says why."""


class SharedSession(Database):
    """A connection to a server whose connections share one session: it prepares nothing that another would find."""

    def connection(self) -> Connection:
        """The connection, made now if there is none."""
        connection = super().connection()
        connection.prepare_threshold = None
        return connection


@contextlib.contextmanager
def timescaledb(docker_url: str | None) -> Iterator[Database]:
    """An empty database with TimescaleDB, for as long as the context lasts.

    Args:
        docker_url: the container's server, where the tests run on Docker.

    Raises:
        NoTimescaleError: there is none, and none is required.
        RuntimeError: there is none although it is required.
    """
    url = os.environ.get("FUNNELWATCH_TEST_TIMESCALE_URL") or docker_url
    with contextlib.ExitStack() as open_until_done:
        if url:
            database = open_until_done.enter_context(_on_server(url))
        else:
            try:
                database = open_until_done.enter_context(_in_webassembly())
            except NoTimescaleError as error:
                if os.environ.get("FUNNELWATCH_TEST_TIMESCALEDB") == "required":
                    raise RuntimeError(f"no TimescaleDB, and it is required here: {error}") from error
                raise
        yield database


def plan() -> str:
    """One line on which TimescaleDB this run is going to use."""
    if os.environ.get("FUNNELWATCH_TEST_TIMESCALE_URL"):
        return "TimescaleDB: the server named by FUNNELWATCH_TEST_TIMESCALE_URL"
    if docker_is_wanted():
        return "TimescaleDB: the Docker container"
    if _missing():
        return f"TimescaleDB: NONE, its tests are skipped: {_missing()}"
    return "TimescaleDB: in WebAssembly, from npm"


@contextlib.contextmanager
def _on_server(url: str) -> Iterator[Database]:
    name = f"test_{uuid.uuid4().hex}"
    database = Database(make_database(url, name, timescaledb=True))
    try:
        yield database
    finally:
        database.close()
        drop_database(url, name)


@contextlib.contextmanager
def _in_webassembly() -> Iterator[Database]:
    if missing := _missing():
        raise NoTimescaleError(missing)
    command = ["node", str(_installed() / "server.mjs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            line = server.stdout.readline()
            if not line.startswith("listening on "):
                raise RuntimeError(f"TimescaleDB in WebAssembly did not start: {line!r}")
            port = int(line.removeprefix("listening on "))
            database = SharedSession(f"postgresql://postgres@127.0.0.1:{port}/postgres")
            yield database
            database.close()
        finally:
            server.terminate()


def _missing() -> str | None:
    programs = [program for program in ("node", "npm") if shutil.which(program) is None]
    if programs:
        return (
            f"no {' and no '.join(programs)} on PATH (Node.js 20 or later): install it, or name a server with "
            "FUNNELWATCH_TEST_TIMESCALE_URL"
        )
    return None


def _installed() -> Path:
    """The folder of the server with what it needs, installed once for every clone of this user."""
    sources = sorted(SERVER.iterdir())
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = cache(os.environ, Path(tempfile.gettempdir())).with_name(f"timescaledb-{digest}")
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        for source in sources:
            shutil.copy(source, unfinished)
        # The lock file says which version, and the checksum that it must have.
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(
            command, cwd=unfinished, capture_output=True, text=True, timeout=NPM_TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise NoTimescaleError(f"npm could not install it: {done.stderr.strip()}")
        with contextlib.suppress(OSError):  # another process was faster
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
