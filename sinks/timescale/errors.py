"""Classifies errors of the database: wait and repeat, repeat in smaller parts, or find the value that is at fault.

The SQLSTATE decides, not psycopg's class: ``OperationalError`` contains an outage (57P03) and an error that retrying
cannot help (53400); ``InternalError`` contains an outage (25006). Appendix A of PostgreSQL's manual lists the codes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import psycopg


class ErrorKind(StrEnum):
    """How a caller reacts to an error of the database."""

    OUTAGE = "outage"
    """The server or an administrator must act first: wait, reconnect, repeat the same transaction."""

    LIMIT = "limit"
    """The transaction exceeds a time or memory limit: repeat it, in smaller parts where that is possible."""

    DATA = "data"
    """The server rejects a value or a row: retrying cannot help; only the row that causes the error is left out."""

    BUG = "bug"
    """A wrong statement or a missing table: retrying cannot help, and no row is at fault."""


# Longest prefix wins: a whole code overrides its class.
_BY_PREFIX: Final = {
    "08": ErrorKind.OUTAGE,  # connection exception; PgBouncer's own errors are 08P01
    "0A": ErrorKind.DATA,  # feature not supported: TimescaleDB rejects some writes to compressed chunks with it
    "21": ErrorKind.DATA,  # cardinality violation
    "22": ErrorKind.DATA,  # data exception
    "23": ErrorKind.DATA,  # integrity constraint violation
    "25006": ErrorKind.OUTAGE,  # read only: a replica after a failover, or a guard against a full disk
    "25P03": ErrorKind.OUTAGE,  # idle_in_transaction_session_timeout: this process was frozen
    "25P04": ErrorKind.LIMIT,  # transaction_timeout
    "26": ErrorKind.OUTAGE,  # unknown prepared statement: a pooler gave the session to somebody else; reconnect
    "27": ErrorKind.DATA,  # triggered data change violation
    "28": ErrorKind.OUTAGE,  # invalid authorization: a password changed, a role may not log in for the moment
    "2F": ErrorKind.DATA,  # SQL routine exception
    "38": ErrorKind.DATA,  # external routine exception
    "39": ErrorKind.DATA,  # external routine invocation exception
    "3D": ErrorKind.OUTAGE,  # the database does not exist: it is being restored or renamed
    "40": ErrorKind.OUTAGE,  # serialization failure, deadlock: the server chose this transaction as the victim
    "40002": ErrorKind.DATA,  # a deferred constraint is violated
    "42501": ErrorKind.OUTAGE,  # insufficient privilege: an administrator revoked it and can grant it again
    "42P05": ErrorKind.OUTAGE,  # duplicate prepared statement: as 26
    "44": ErrorKind.DATA,  # WITH CHECK OPTION violation
    "53": ErrorKind.OUTAGE,  # disk full, too many connections
    "53200": ErrorKind.LIMIT,  # out of memory
    "53400": ErrorKind.DATA,  # configuration limit: TimescaleDB's limit of decompressed tuples, temp_file_limit
    "54": ErrorKind.DATA,  # program limit exceeded: an index row that is too large, for example
    "55": ErrorKind.OUTAGE,  # object not in prerequisite state, in use, lock not available
    "57": ErrorKind.OUTAGE,  # operator intervention: shutdown, crash, cannot connect now, session timeouts
    "57014": ErrorKind.LIMIT,  # query cancelled: statement_timeout
    "58": ErrorKind.OUTAGE,  # system error: I/O
    "F0": ErrorKind.OUTAGE,  # configuration file error
    "HV": ErrorKind.OUTAGE,  # foreign data wrapper: the server behind it is away
    "P0": ErrorKind.DATA,  # RAISE EXCEPTION of a trigger
    "XX": ErrorKind.DATA,  # internal error, corrupted page or index: it concerns the rows on that page
}
_LONGEST: Final = 5


def kind_of_code(sqlstate: str) -> ErrorKind:
    """The kind of an error by its SQLSTATE; an unknown code is a ``BUG``."""
    for length in (_LONGEST, 2):
        if (kind := _BY_PREFIX.get(sqlstate[:length])) is not None:
            return kind
    return ErrorKind.BUG


def kind_of(error: Exception) -> ErrorKind:
    """The kind of any exception; one that is not psycopg's is a ``BUG``."""
    if not isinstance(error, psycopg.Error):
        return ErrorKind.BUG
    if error.sqlstate is not None:
        return kind_of_code(error.sqlstate)
    # The client raised it. A failed connection has no SQLSTATE, whatever the server answered.
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return ErrorKind.OUTAGE
    return ErrorKind.DATA if isinstance(error, psycopg.DataError) else ErrorKind.BUG


def is_outage(error: Exception) -> bool:
    """Whether to wait and repeat: the server is away, full, read only, or chose this transaction as a victim."""
    return kind_of(error) in {ErrorKind.OUTAGE, ErrorKind.LIMIT}
