"""The servers of the drills: a stack of their own, each service of which can be ended and started again."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
import redis
from psycopg import sql

from funnelwatch.deploy.embedded import process
from funnelwatch.deploy.embedded.stack import Stack
from funnelwatch.deploy.embedded.state import StackState

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    import psutil

    from funnelwatch.deploy.embedded.stack import Kafka

GRACE_S = 30.0


class Servers:
    """Kafka, PostgreSQL and Redis in a temporary folder; a context manager that leaves nothing behind.

    Args:
        kafka: which broker.
        say: told what happens, a line at a time.
        keep: leave the folder, in which the logs are, when the servers are ended.
    """

    def __init__(self, kafka: Kafka, say: Callable[[str], None], *, keep: bool = False) -> None:
        self._kafka: Kafka = kafka
        self._keep = keep
        self._say = say
        self.folder = Path()
        self.state = StackState()

    def __enter__(self) -> Self:
        """Start all."""
        self.folder = Path(tempfile.mkdtemp(prefix="funnelwatch-drill-"))
        self.folder.chmod(0o755)  # PostgreSQL's unprivileged user may pass when the drill runs as root
        # Servers that the environment names are not ours to kill.
        environ = {
            name: value for name, value in Stack(self.folder).environ.items() if not name.startswith("FUNNELWATCH_")
        }
        self._stack = Stack(self.folder, self._kafka, environ)
        try:
            self.state = self._stack.up(self._say)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End all, and remove what they have left."""
        self._remove()

    def _remove(self) -> None:
        for name in ("kafka", "postgres", "redis"):
            self.thaw(name)
        self._stack.down(purge=not self._keep)
        if self._keep:
            self._say(f"the logs are in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, service: str) -> str:
        """Where a service is."""
        return self.state.services[service].url

    def program(self, service: str) -> str:
        """Name and version of what serves it."""
        return self.state.services[service].program

    def end(self, service: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a service: at once, or in good order by another signal."""
        if (running := self._process(service)) is not None:
            process.stop(running, number, GRACE_S)

    def start(self) -> None:
        """Start again what was ended, on the same ports and data.

        Raises:
            StackError: it does not start, or not where it was.
        """
        before = {name: service.url for name, service in self.state.services.items()}
        self.state = self._stack.up(lambda _: None)
        after = {name: service.url for name, service in self.state.services.items()}
        if before != after:
            raise RuntimeError(f"a service came back at another address: {before} before, {after} after")

    def freeze(self, service: str) -> None:
        """Make a service silent, without ending its connections."""
        if (running := self._process(service)) is not None:
            running.suspend()

    def thaw(self, service: str) -> None:
        """Let it go on."""
        if (running := self._process(service)) is not None:
            running.resume()

    def _process(self, service: str) -> psutil.Process | None:
        found = self.state.services.get(service)
        return process.alive(found.pid, found.created) if found else None

    def make_database(self, name: str) -> str:
        """The address of a new database."""
        url = self.url("postgres")
        with psycopg.connect(url, autocommit=True) as session:
            session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        address = url.rpartition("/")[0] + f"/{name}"
        if self.state.timescaledb:
            with psycopg.connect(address, autocommit=True) as session:
                session.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        return address

    def redis(self) -> Any:
        """A client of Redis."""
        return redis.Redis.from_url(self.url("redis"), socket_timeout=5)
