"""Classifies errors of the servers: wait and repeat, repeat in smaller parts, leave the value out, or stop.

Every retry, readiness check and page asks ``classify``; no other code decides which error is an outage.

For the database, the SQLSTATE decides, not psycopg's class: ``OperationalError`` contains an outage (57P03) and an
error that retrying cannot help (53400); ``InternalError`` contains an outage (25006). Appendix A of PostgreSQL's manual
lists the codes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import psycopg
import redis
from confluent_kafka import KafkaException

from funnelwatch.producers.kafka.topics import KafkaUnreachable
from funnelwatch.schemas.codec import RegistryUnavailable
from funnelwatch.schemas.errors import FunnelwatchError


class BusyError(FunnelwatchError):
    """Another process or thread holds a resource that this one needs; retrying helps."""


class ErrorClass(StrEnum):
    """How a caller reacts to an error."""

    OUTAGE = "outage"
    """The server or an administrator must act first: wait, reconnect, repeat the same operation."""

    BUSY = "busy"
    """The operation exceeds a time or memory limit, or another process holds what it needs: repeat it, in smaller parts
    where that is possible."""

    REJECTED = "rejected"
    """The server rejects a value or a row: retrying cannot help; only the row that causes the error is left out."""

    BUG = "bug"
    """A wrong statement, a missing table or any error of this program: retrying cannot help, and no row causes it."""

    @property
    def is_transient(self) -> bool:
        """Whether the same operation can succeed later."""
        return self in {ErrorClass.OUTAGE, ErrorClass.BUSY}


# Longest prefix wins: a whole code overrides its class.
_BY_SQLSTATE: Final = {
    "08": ErrorClass.OUTAGE,  # connection exception; PgBouncer's own errors are 08P01
    "0A": ErrorClass.REJECTED,  # feature not supported: TimescaleDB rejects some writes to compressed chunks with it
    "21": ErrorClass.REJECTED,  # cardinality violation
    "22": ErrorClass.REJECTED,  # data exception
    "23": ErrorClass.REJECTED,  # integrity constraint violation
    "25006": ErrorClass.OUTAGE,  # read only: a replica after a failover, or a guard against a full disk
    "25P03": ErrorClass.OUTAGE,  # idle_in_transaction_session_timeout: this process was frozen
    "25P04": ErrorClass.BUSY,  # transaction_timeout
    "26": ErrorClass.OUTAGE,  # unknown prepared statement: a pooler gave the session to another client; reconnect
    "27": ErrorClass.REJECTED,  # triggered data change violation
    "28": ErrorClass.OUTAGE,  # invalid authorization: a password changed, a role may not log in for the moment
    "2F": ErrorClass.REJECTED,  # SQL routine exception
    "38": ErrorClass.REJECTED,  # external routine exception
    "39": ErrorClass.REJECTED,  # external routine invocation exception
    "3D": ErrorClass.OUTAGE,  # the database does not exist: it is being restored or renamed
    "40": ErrorClass.OUTAGE,  # serialization failure, deadlock: the server chose this transaction as the victim
    "40002": ErrorClass.REJECTED,  # a deferred constraint is violated
    "42501": ErrorClass.OUTAGE,  # insufficient privilege: an administrator revoked it and can grant it again
    "42P05": ErrorClass.OUTAGE,  # duplicate prepared statement: as 26
    "44": ErrorClass.REJECTED,  # WITH CHECK OPTION violation
    "53": ErrorClass.OUTAGE,  # disk full, too many connections
    "53200": ErrorClass.BUSY,  # out of memory
    "53400": ErrorClass.REJECTED,  # configuration limit: TimescaleDB's limit of decompressed tuples, temp_file_limit
    "54": ErrorClass.REJECTED,  # program limit exceeded: an index row that is too large, for example
    "55": ErrorClass.OUTAGE,  # object not in prerequisite state, in use, lock not available
    "57": ErrorClass.OUTAGE,  # operator intervention: shutdown, crash, cannot connect now, session timeouts
    "57014": ErrorClass.BUSY,  # query cancelled: statement_timeout
    "58": ErrorClass.OUTAGE,  # system error: I/O
    "F0": ErrorClass.OUTAGE,  # configuration file error
    "HV": ErrorClass.OUTAGE,  # foreign data wrapper: the server behind it is away
    "P0": ErrorClass.REJECTED,  # RAISE EXCEPTION of a trigger
    "XX": ErrorClass.REJECTED,  # internal error, corrupted page or index: it concerns the rows on that page
}
_SQLSTATE_CHARACTERS: Final = 5


def class_of_sqlstate(sqlstate: str) -> ErrorClass:
    """The class of a database error by its SQLSTATE; an unknown code is a ``BUG``."""
    for length in (_SQLSTATE_CHARACTERS, 2):
        if (found := _BY_SQLSTATE.get(sqlstate[:length])) is not None:
            return found
    return ErrorClass.BUG


def classify(error: BaseException) -> ErrorClass:
    """The class of any error.

    Kafka's errors are outages, also a denied right: an administrator can grant it. So are Redis's, except a value that
    redis-py itself cannot send: Redis is a cache, and what it rejects (memory, rights, a replica) its administrator can
    change. ``OSError`` is an error of the network.
    """
    match error:
        case psycopg.Error():
            return _class_of_database_error(error)
        case BusyError():
            return ErrorClass.BUSY
        case redis.DataError():
            return ErrorClass.BUG
        case KafkaException() | KafkaUnreachable() | RegistryUnavailable() | redis.RedisError() | OSError():
            return ErrorClass.OUTAGE
    return ErrorClass.BUG


def is_transient(error: BaseException) -> bool:
    """Whether to wait and repeat the same operation."""
    return classify(error).is_transient


def is_transient_for_reader(error: BaseException) -> bool:
    """As ``is_transient``; a reader also waits for tables that the first worker creates."""
    return is_transient(error) or isinstance(error, psycopg.errors.UndefinedTable)


def _class_of_database_error(error: psycopg.Error) -> ErrorClass:
    if error.sqlstate is not None:
        return class_of_sqlstate(error.sqlstate)
    # The client raised it. A failed connection has no SQLSTATE, whatever the server answered.
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return ErrorClass.OUTAGE
    return ErrorClass.REJECTED if isinstance(error, psycopg.DataError) else ErrorClass.BUG
