"""A read-only connection for programs that answer queries; every statement has a time limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.queries import QUERIES

if TYPE_CHECKING:
    from pydantic import SecretStr

    from funnelwatch.sinks.timescale.database import Connection


class Reader(Database):
    """A ``Database`` whose transactions are read only and whose statements have a time limit.

    It acts as the role ``funnelwatch_reader`` where that role exists, may read these tables, and has the login as a
    member: then it can read nothing else. A login with SELECT of its own needs no such role.

    Args:
        url: where the database is.
        application: the name that the server shows.
        statement_s: time limit of a statement, s; the server ends it with ``psycopg.errors.QueryCanceled``.
    """

    def __init__(self, url: str | SecretStr, *, application: str, statement_s: float) -> None:
        super().__init__(url, application=application)
        self._statement_ms = int(statement_s * 1000)

    def prepare(self, connection: Connection) -> None:
        """Restrict a new connection to reading."""
        super().prepare(connection)
        connection.execute(QUERIES["keep_search_path"])
        connection.execute(QUERIES["become_reader"])
        connection.execute(QUERIES["only_read"], {"statement_ms": str(self._statement_ms)})


class LentReader(Database):
    """A ``Reader`` over a connection that a pool lends; a lost connection is not replaced.

    Args:
        reader: how the connection was prepared.
        connection: prepared by ``reader``.
    """

    def __init__(self, reader: Reader, connection: Connection) -> None:
        super().__init__(reader.url)
        self._lent = connection

    def connection(self) -> Connection:
        """The connection that was lent, also after it broke: the next statement then raises."""
        return self._lent

    def close(self) -> None:
        """Close the connection, so that the pool discards it."""
        self._lent.close()
