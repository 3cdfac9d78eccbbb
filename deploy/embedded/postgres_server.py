"""PostgreSQL, with TimescaleDB where the server has it."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from funnelwatch.deploy.embedded import private, process
from funnelwatch.deploy.embedded.ports import HOST
from funnelwatch.deploy.embedded.postgres_place import Place, find_place
from funnelwatch.deploy.embedded.postgres_programs import Programs, find_programs
from funnelwatch.deploy.embedded.private import FOLDER, password
from funnelwatch.deploy.embedded.server import Context, Server, failure

if TYPE_CHECKING:
    from pathlib import Path

DATABASE = "funnelwatch"
USER = "postgres"
EXTENSION = "timescaledb"
INITDB_TIMEOUT_S = 120.0
HBA = """\
# Written by `funnelwatch up`; changes are lost. For the password whose SHA-256 is {digest}.
local all all scram-sha-256
host all all all scram-sha-256
local replication all scram-sha-256
host replication all all scram-sha-256
"""


class PostgresServer(Server):
    """A PostgreSQL that asks everybody for a password, whether they come over TCP or a socket."""

    service = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: sessions are ended, data are written
    grace_s = 30.0
    start_s = 120.0  # recovery after a crash takes its time

    def __init__(self, context: Context, place: Place, programs: Programs) -> None:
        """``programs`` can be run by the place's user."""
        super().__init__(context, f"postgresql {programs.version}", programs.why)
        self.place = place
        self.programs = programs
        self.password = password(context.data_dir, "postgres")

    def prepare(self) -> None:
        """Make the data directory, the first time, and set its password; an interrupted attempt leaves none."""
        data = self.place.data
        if (data / "PG_VERSION").exists():
            self._end_orphans()
        else:
            self._initialize(data)
        self._require_password(data)

    def _initialize(self, data: Path) -> None:
        unfinished = data.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        offset = self.log.stat().st_size if self.log.exists() else 0
        args: list[str | Path] = [
            self.programs.folder / "initdb",
            f"--pgdata={unfinished}",
            f"--username={USER}",
            "--auth=reject",
            "--encoding=UTF8",
            "--no-locale",
            "--no-instructions",
        ]
        command = process.Command(args, self.place.folder, user=self.place.user)
        code = process.run(command, self.log, self.context.cancel, INITDB_TIMEOUT_S)
        if code != 0:
            raise failure(self, offset, f"could not make its data directory {data} (initdb: exit code {code})")
        unfinished.rename(data)

    def _require_password(self, data: Path) -> None:
        """Let nobody in without this stack's password, also on data of earlier versions, which trusted everybody.

        No server runs yet: PostgreSQL sets the password in single-user mode, read from its input. The file of access
        rules says for which password it was written, so that it is set anew where the password or the file is another.
        """
        rules = HBA.format(digest=hashlib.sha256(self.password.encode()).hexdigest())
        file = data / "pg_hba.conf"
        if not file.exists() or file.read_text(errors="replace") != rules:
            self._set_password(data)
            private.write(file, rules)
        if self.place.user is not None:
            os.chown(file, *self.place.user)

    def _set_password(self, data: Path) -> None:
        offset = self.log.stat().st_size if self.log.exists() else 0
        args: list[str | Path] = [
            self.programs.folder / "postgres",
            "--single",
            "-D",
            data,
            *("-c", "password_encryption=scram-sha-256"),
            *("-c", "shared_preload_libraries="),
            *("-c", "log_statement=none"),
            *("-c", "log_min_error_statement=panic"),
            "postgres",
        ]
        statement = f"ALTER ROLE {USER} PASSWORD '{self.password}'\n".encode()
        command = process.Command(args, self.place.folder, user=self.place.user, stdin=statement)
        code = process.run(command, self.log, self.context.cancel, INITDB_TIMEOUT_S)
        if code != 0 or "ERROR" in process.tail(self.log, offset):
            raise failure(self, offset, f"could not set the password of its data directory {data} (exit code {code})")

    def command(self, port: int) -> process.Command:
        """No Unix socket: its path may be too long, and loopback serves everybody who has the password."""
        options = {
            "listen_addresses": HOST,
            "port": port,
            "unix_socket_directories": "",
            "max_connections": 100,
            "password_encryption": "scram-sha-256",
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
        """Write psql's file of passwords, and make the database, with TimescaleDB if this server has it.

        TimescaleDB has to be loaded at the start.
        """
        passwords = self.context.data_dir / FOLDER / "pgpass"
        private.write(passwords, f"{HOST}:{port}:*:{USER}:{self.password}\n")
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
        return f"postgresql://{USER}:{self.password}@{HOST}:{port}/{database}"

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
