"""PostgreSQL, with TimescaleDB where the server has it."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from deploy.embedded import process
from deploy.embedded.ports import HOST
from deploy.embedded.postgres_place import Place, find_place
from deploy.embedded.postgres_programs import Programs, find_programs
from deploy.embedded.server import Context, Server, failure

if TYPE_CHECKING:
    from pathlib import Path

DATABASE = "funnelwatch"
USER = "postgres"
EXTENSION = "timescaledb"
INITDB_TIMEOUT_S = 120.0


class PostgresServer(Server):
    """A PostgreSQL that trusts whoever reaches its loopback port."""

    service = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: sessions are ended, data are written
    grace_s = 30.0
    start_s = 120.0  # recovery after a crash takes its time

    def __init__(self, context: Context, place: Place, programs: Programs) -> None:
        """``programs`` can be run by the place's user."""
        super().__init__(context, f"postgresql {programs.version}", programs.why)
        self.place = place
        self.programs = programs

    def prepare(self) -> None:
        """Make the data directory, the first time; an interrupted attempt leaves none."""
        data = self.place.data
        if (data / "PG_VERSION").exists():
            self._end_orphans()
            return
        unfinished = data.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        offset = self.log.stat().st_size if self.log.exists() else 0
        args: list[str | Path] = [
            self.programs.folder / "initdb",
            f"--pgdata={unfinished}",
            f"--username={USER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-instructions",
        ]
        command = process.Command(args, self.place.folder, user=self.place.user)
        code = process.run(command, self.log, self.context.cancel, INITDB_TIMEOUT_S)
        if code != 0:
            raise failure(self, offset, f"could not make its data directory {data} (initdb: exit code {code})")
        unfinished.rename(data)

    def command(self, port: int) -> process.Command:
        """No Unix socket: its path may be too long, and loopback serves everybody."""
        options = {
            "listen_addresses": HOST,
            "port": port,
            "unix_socket_directories": "",
            "max_connections": 100,
            "timezone": "UTC",
            "log_timezone": "UTC",
            "timescaledb.telemetry_level": "off",
        }
        args: list[str | Path] = [self.programs.folder / "postgres", "-D", self.place.data]
        for name, value in options.items():
            args += ["-c", f"{name}={value}"]
        return process.Command(args, self.place.folder, user=self.place.user)

    def answers(self, port: int) -> bool:
        """Whether it takes sessions; during recovery it does not."""
        try:
            with psycopg.connect(self._address(port, "postgres"), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def url(self, port: int) -> str:
        """The database ``funnelwatch``."""
        return self._address(port, DATABASE)

    def after_start(self, port: int) -> bool:
        """Make the database, with TimescaleDB if this server has it; that has to be loaded at the start."""
        with psycopg.connect(self._address(port, "postgres"), autocommit=True) as session:
            if not session.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
                session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
            available = session.execute(
                "SELECT default_version FROM pg_available_extensions WHERE name = %s", (EXTENSION,)
            ).fetchone()
            row = session.execute("SHOW shared_preload_libraries").fetchone()
            loaded = row is not None and EXTENSION in row[0]
            if available and not loaded:
                session.execute(
                    sql.SQL("ALTER SYSTEM SET shared_preload_libraries = {}").format(sql.Literal(EXTENSION))
                )
                return True
        if available:
            with psycopg.connect(self.url(port), autocommit=True) as session:
                session.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(EXTENSION)))
            self.notes = [f"{EXTENSION} {available[0]}"]
        else:
            self.notes = [f"plain: this server has no {EXTENSION}"]
        return False

    def _address(self, port: int, database: str) -> str:
        return f"postgresql://{USER}@{HOST}:{port}/{database}"

    def _end_orphans(self) -> None:
        """Clear away what a killed server left behind, else the next one refuses to start beside it.

        Its lock file is removed only when no process of this data directory is left: below a process 1 that does not
        reap its children (as in many containers) the killed server's id stays taken by a zombie, and PostgreSQL would
        believe it alive.
        """
        left = [found for found in process.strays(None, self.place.data) if found.pid != os.getpid()]
        for orphan in left:
            process.stop(orphan, signal.SIGQUIT, 5.0)
        if not process.strays(None, self.place.data):
            (self.place.data / "postmaster.pid").unlink(missing_ok=True)


def choose(context: Context) -> PostgresServer:
    """The server of the PATH or of the wheel, in a place where it may run.

    Raises:
        StackError: there is none, or no place for it.
    """
    place = find_place(context.data_dir)
    return PostgresServer(context, place, find_programs(context.environ, place))
