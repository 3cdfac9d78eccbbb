"""One connection to the database, which is replaced after an outage, and its transactions."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row
from pydantic import SecretStr

from funnelwatch.schemas.redaction import revealed
from funnelwatch.sinks.errors import is_transient
from funnelwatch.sinks.timescale.queries import QUERIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Row = dict[str, Any]
Connection = psycopg.Connection[Row]

IDLE_IN_TRANSACTION_S = 60.0
"""The server ends a transaction, and its locks, of a process that is frozen for this long, s.

Longer than the longest wait within a transaction: 35 s, until Kafka acknowledges replayed records.
"""

LIMITS = """
SELECT
    set_config('idle_in_transaction_session_timeout', %s, false),
    set_config('idle_session_timeout', %s, false)
"""


def connection_properties(application: str) -> dict[str, Any]:
    """Properties of every connection.

    Args:
        application: the name that the server shows.
    """
    return {
        "row_factory": dict_row,
        "autocommit": True,
        "connect_timeout": 5,
        "application_name": application,
        # A server that vanished silently is noticed within about 30 s instead of hours.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 4,
    }


class Database:
    """A connection that is opened at the first use, and again after an error. For one thread at a time.

    Args:
        url: where the database is.
        application: the name that the server shows.
        idle_in_transaction_s: the server ends a session that is idle for this long within a transaction, s.
        idle_session_s: the server ends a session that is idle for this long, s; 0: never. For holders of session locks.
    """

    def __init__(
        self,
        url: str | SecretStr,
        *,
        application: str = "funnelwatch",
        idle_in_transaction_s: float = IDLE_IN_TRANSACTION_S,
        idle_session_s: float = 0.0,
    ) -> None:
        self.url = SecretStr(revealed(url))
        self._limits = [str(int(idle_in_transaction_s * 1000)), str(int(idle_session_s * 1000))]
        self._application = application
        self._connection: Connection | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection, which may be dead."""
        return self._connection is not None and not self._connection.closed

    def connection(self) -> Connection:
        """The connection, opened now if there is none.

        Raises:
            psycopg.OperationalError: the database cannot be reached.
        """
        if self._connection is None or self._connection.closed:
            connection: Connection = psycopg.connect(
                self.url.get_secret_value(), **connection_properties(self._application)
            )
            self.prepare(connection)
            self._connection = connection
        return self._connection

    def prepare(self, connection: Connection) -> None:
        """Set the limits of a new connection, and let it find TimescaleDB's functions in any schema."""
        connection.execute(LIMITS, self._limits)
        connection.execute(QUERIES["see_extension"])

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Cursor[Row]]:
        """A cursor within a transaction: committed at the end, rolled back on an error.

        Raises:
            psycopg.Error: the database rejected something or went away. The outcome of a commit under way is then
                unknown, so a caller that repeats the transaction must recognize it (by ``stream_progress``).
        """
        connection = self.connection()
        try:
            with connection.transaction(), connection.cursor() as cursor:
                yield cursor
        except psycopg.Error as error:
            # After an outage the session may be dead, or on a server that has become a replica: the next one is new.
            if connection.closed or is_transient(error):
                self.close()
            raise

    @contextmanager
    def outside_transaction(self) -> Iterator[psycopg.Cursor[Row]]:
        """A cursor outside transactions; the server commits each statement by itself.

        Raises:
            psycopg.Error: the database rejected something or went away.
        """
        connection = self.connection()
        try:
            with connection.cursor() as cursor:
                yield cursor
        except psycopg.Error as error:
            # After an outage the session may be dead, or on a server that has become a replica: the next one is new.
            if connection.closed or is_transient(error):
                self.close()
            raise

    def query(self, name: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """The rows of a named query of one statement, which the server commits without BEGIN and COMMIT."""
        with self.outside_transaction() as cursor:
            return run(cursor, name, parameters)

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def run(cursor: psycopg.Cursor[Row], name: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
    """Run a named query; returns its rows."""
    cursor.execute(QUERIES[name], parameters or {})
    return cursor.fetchall() if cursor.description else []
