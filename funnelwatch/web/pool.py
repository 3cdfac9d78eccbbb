"""Read-only connections for the threads that answer requests: psycopg's pool, bound to reading and to short waits."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from funnelwatch.schemas.redaction import revealed
from funnelwatch.sinks.errors import BusyError, is_transient
from funnelwatch.sinks.timescale.database import Row, connection_properties
from funnelwatch.sinks.timescale.reader import LentReader, Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import SecretStr

    from funnelwatch.sinks.timescale.database import Connection, Database

T = TypeVar("T")

CONNECTIONS = 8
"""Most connections; a request that comes when all are in use waits for one."""

STATEMENT_S = 10.0
"""Longest time for a statement, s."""

NOTICE_S = 0.1
"""A request that waits for a connection notices within this that none can be made, s."""

IDLE_S = 60.0
"""An idle connection is closed after this, s."""

# The board's own pages report an outage; a line for each request would repeat it.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


class PoolBusyError(BusyError):
    """All connections to the database have been in use for too long."""


class Pool:
    """Read-only connections to the counts.

    psycopg's pool alone lets a request wait for its whole timeout while the database is away. This one fails as soon as
    a connection attempt fails.

    Args:
        url: where the database is.
        application: the name that the server shows.
        wait_s: longest wait for a connection when all are in use, s.
    """

    def __init__(
        self, url: str | SecretStr, *, application: str = "funnelwatch board", wait_s: float = STATEMENT_S
    ) -> None:
        self._wait_s = wait_s
        self._reader = Reader(url, application=application, statement_s=STATEMENT_S)
        self._failure: tuple[float, psycopg.Error] | None = None
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            revealed(url),
            connection_class=_Connection,
            kwargs={**connection_properties(application), "on_failure": self._note},
            configure=self._prepare,
            min_size=0,
            max_size=CONNECTIONS,
            max_idle=IDLE_S,
            # One failed attempt answers the requests that wait; the next request makes the next attempt.
            reconnect_timeout=0.0,
            open=False,
        )

    def run(self, ask: Callable[[Database], T]) -> T:
        """The result of ``ask`` on a connection; asked a second time where the connection turns out to be dead.

        Raises:
            PoolBusyError: all connections are in use.
            psycopg.Error: the database is away.
        """
        with self.database() as reader:
            try:
                return ask(reader)
            except psycopg.Error as error:
                if not is_transient(error) or isinstance(error, psycopg.errors.QueryCanceled):
                    raise
        # After a restart of the database every idle connection is dead.
        self._pool.check()
        with self.database() as reader:
            return ask(reader)

    @contextmanager
    def database(self) -> Iterator[LentReader]:
        """A connection for as long as the block runs.

        Raises:
            PoolBusyError: all connections are in use.
            psycopg.Error: the database is away.
        """
        connection = self._connection()
        try:
            yield LentReader(self._reader, connection)
        finally:
            self._pool.putconn(connection)

    def close(self) -> None:
        """Close all connections; one in use is closed when it comes back."""
        self._pool.close()

    def _connection(self) -> Connection:
        self._pool.open()
        began = time.monotonic()
        while True:
            left_s = self._wait_s - (time.monotonic() - began)
            try:
                return self._pool.getconn(max(0.001, min(left_s, NOTICE_S)))
            except PoolTimeout:
                if self._failure is not None and self._failure[0] >= began:
                    raise self._failure[1].with_traceback(None) from None
                if left_s <= NOTICE_S:
                    raise PoolBusyError("all connections to the database are in use") from None

    def _prepare(self, connection: Connection) -> None:
        try:
            self._reader.prepare(connection)
        except psycopg.Error as error:
            self._note(error)
            raise

    def _note(self, error: psycopg.Error) -> None:
        self._failure = time.monotonic(), error


class _Connection(psycopg.Connection[Row]):
    """A connection that reports why it could not be made."""

    @classmethod
    def connect(cls, conninfo: str = "", *, on_failure: Callable[[psycopg.Error], None], **kwargs: Any) -> _Connection:  # type: ignore[override] # psycopg's own parameters, and one more
        try:
            return super().connect(conninfo, **kwargs)
        except psycopg.Error as error:
            on_failure(error)
            raise
