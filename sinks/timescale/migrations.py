"""Numbered migrations, each a ``.sql`` file below ``migrations/``, run once and in order.

A file whose name holds ``.timescale.`` is run only where the extension is, one with ``.plain.`` only where it is not,
so that both end with the same names.
"""

from __future__ import annotations

import logging
from importlib.resources import files
from typing import TYPE_CHECKING

import psycopg

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.sinks.timescale.database import Database, run

if TYPE_CHECKING:
    from psycopg import Cursor

    from funnelwatch.sinks.timescale.database import Row

log = logging.getLogger(__name__)

CREATE_EXTENSION = "CREATE EXTENSION timescaledb"


class UnusableDatabaseError(FunnelwatchError, ValueError):
    """Waiting cannot help: a person must change the database or a setting. The message says what to change."""


class WindowLengthError(UnusableDatabaseError):
    """The window length of the database differs from the settings."""


class DatabaseEncodingError(UnusableDatabaseError):
    """The database cannot hold every name that an event may have."""


class MissingRightsError(UnusableDatabaseError):
    """The user may not make or change the tables."""


def has_timescale(cursor: Cursor[Row]) -> bool:
    """Whether the tables here are made for the extension; one that is installed later changes nothing."""
    plain = any(".plain." in row["name"] for row in run(cursor, "known_migrations"))
    return not plain and bool(run(cursor, "timescale_installed"))


def check_window_length(database: Database, window_ms: int) -> None:
    """Read the window length of the counts; changes nothing, so a user who may only read can call it.

    Raises:
        WindowLengthError: the counts are of another window length.
        psycopg.errors.UndefinedTable: no worker has made the tables yet.
        psycopg.Error: the database cannot be reached.
    """
    for row in database.query("window_length"):
        _compare(row["window_ms"], window_ms)


def migrate(database: Database, window_ms: int) -> list[str]:
    """Bring the database's schema up to date; safe to call from many processes at once.

    The user needs to own the schema that comes first in its search path, and nothing else.

    Returns:
        The names of the migrations that were run now.

    Raises:
        DatabaseEncodingError: the database is not in UTF-8.
        WindowLengthError: the counts there are of another window length.
        MissingRightsError: the user may not make or change the tables, or there is no schema to make them in.
        psycopg.Error: the database cannot be reached.
    """
    place: Row = {}
    try:
        with database.transaction() as cursor:
            place = run(cursor, "where_tables_go")[0]
            return _migrate(cursor, window_ms, place)
    except psycopg.errors.InsufficientPrivilege as error:
        raise MissingRightsError(_advice(place, error)) from error


def _migrate(cursor: Cursor[Row], window_ms: int, place: Row) -> list[str]:
    encoding = run(cursor, "encoding")[0]["encoding"]
    if encoding != "UTF8":
        raise DatabaseEncodingError(
            f"the database stores text as {encoding}, which has no room for every event: make one with "
            "CREATE DATABASE funnelwatch ENCODING 'UTF8' TEMPLATE template0, and name it in "
            "FUNNELWATCH_TIMESCALE_URL"
        )
    run(cursor, "lock_migrations")
    if not run(cursor, "migrations_kept"):
        if not place["may_create"]:
            raise MissingRightsError(_advice(place, None))
        run(cursor, "create_migrations")
    done: list[str] = []
    known = {row["name"] for row in run(cursor, "known_migrations")}
    if not known:
        _create_extension(cursor)
    other = ".plain." if has_timescale(cursor) else ".timescale."
    for script in sorted((files(__package__) / "migrations").iterdir(), key=lambda entry: entry.name):
        if not script.name.endswith(".sql") or script.name in known or other in script.name:
            continue
        cursor.execute(script.read_text())
        run(cursor, "note_migration", {"name": script.name})
        done.append(script.name)
    run(cursor, "grant_reading")
    kept = run(cursor, "window_length")
    if not kept:
        run(cursor, "set_window_length", {"window_ms": window_ms})
    else:
        _compare(kept[0]["window_ms"], window_ms)
    return done


def _create_extension(cursor: Cursor[Row]) -> None:
    """Make the extension before the first table, where the server has it and the user may; plain tables otherwise."""
    if run(cursor, "timescale_installed") or not run(cursor, "timescale_available"):
        return
    try:
        with cursor.connection.transaction():
            run(cursor, "create_timescale")
    except psycopg.errors.InsufficientPrivilege as error:
        log.warning(
            "the server has TimescaleDB, but this user may not run %s (%s): the tables are made for plain PostgreSQL, "
            "and stay so. To use TimescaleDB, let an administrator run it in an empty database before the first start",
            CREATE_EXTENSION, error.diag.message_primary,
        )  # fmt: skip
    else:
        run(cursor, "see_extension")


def _advice(place: Row, error: psycopg.Error | None) -> str:
    """Who may not do what, and what an administrator runs."""
    schema, role = place["schema"], place["role"]
    if schema is None:
        return (
            f"the search path of {role} ({place['search_path']}) names no schema of the database {place['database']} "
            f"that {role} may use. An administrator runs CREATE SCHEMA funnelwatch AUTHORIZATION {role} and "
            f"ALTER ROLE {role} IN DATABASE {place['database']} SET search_path = funnelwatch"
        )
    what = "may not make tables there" if error is None else str(error.diag.message_primary or error)
    return (
        f"{role} cannot prepare the tables in the schema {schema} of the database {place['database']}: {what}. Use "
        f"a user that owns the schema and its tables (an administrator runs CREATE SCHEMA ... AUTHORIZATION {role}), "
        "or name another schema in the user's search_path"
    )


def _compare(kept_ms: int, window_ms: int) -> None:
    if kept_ms != window_ms:
        raise WindowLengthError(
            f"the database has counts in windows of {kept_ms / 1000:g} s, but FUNNELWATCH_WINDOW_S says "
            f"{window_ms / 1000:g}: set it to {kept_ms // 1000}, or use another database"
        )
