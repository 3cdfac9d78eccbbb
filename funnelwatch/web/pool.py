"""Connections for the threads that answer requests: a few, kept open, each for one request at a time."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import psycopg

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.sinks.timescale.database import is_outage
from funnelwatch.sinks.timescale.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import SecretStr

    from funnelwatch.sinks.timescale.database import Database

T = TypeVar("T")

CONNECTIONS = 8
"""At the most; who comes when all are in use waits for one."""

STATEMENT_S = 10.0
"""A statement may take this long, s."""


class BusyError(FunnelwatchError):
    """All connections have been in use for too long."""


class Pool:
    """Read-only connections to the counts.

    Args:
        url: where the database is.
        application: the name that the server shows.
        wait_s: how long to wait for a connection when all are in use, s.
    """

    def __init__(
        self, url: str | SecretStr, *, application: str = "funnelwatch board", wait_s: float = STATEMENT_S
    ) -> None:
        self._url = url
        self._application = application
        self._wait_s = wait_s
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        self._lock = threading.Lock()
        self._idle: list[Reader] = []
        self._closed = False

    def run(self, ask: Callable[[Database], T]) -> T:
        """What ``ask`` makes of a connection; once more on a new one where an idle connection turns out to be dead.

        Raises:
            BusyError: all connections are in use.
            psycopg.Error: the database is away.
        """
        with self._reader() as reader:
            fresh = not reader.connected
            try:
                return ask(reader)
            except psycopg.Error as error:
                if fresh or not is_outage(error) or isinstance(error, psycopg.errors.QueryCanceled):
                    raise
                reader.close()
            return ask(reader)

    @contextmanager
    def database(self) -> Iterator[Database]:
        """A connection for as long as the block runs.

        Raises:
            BusyError: all connections are in use.
        """
        with self._reader() as reader:
            yield reader

    def close(self) -> None:
        """Let all connections go."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.close()

    @contextmanager
    def _reader(self) -> Iterator[Reader]:
        if not self._free.acquire(timeout=self._wait_s):
            raise BusyError("all connections to the database are in use")
        try:
            with self._lock:
                reader = self._idle.pop() if self._idle else None
            reader = reader or Reader(self._url, application=self._application, statement_s=STATEMENT_S)
            try:
                yield reader
            finally:
                with self._lock:
                    closed = self._closed
                    if not closed:
                        self._idle.append(reader)
                if closed:
                    reader.close()
        finally:
            self._free.release()
