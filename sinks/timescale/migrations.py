"""Numbered migrations, each a ``.sql`` file below ``migrations/``, run once and in order.

A file whose name holds ``.timescale.`` is run only where the extension is, one with ``.plain.`` only where it is not,
so that both end with the same names.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from sinks.timescale.database import Database, run

if TYPE_CHECKING:
    from psycopg import Cursor

    from sinks.timescale.database import Row


class WindowLengthError(ValueError):
    """The database counts in windows of another length than the settings say."""


class DatabaseEncodingError(ValueError):
    """The database cannot hold every name that an event may have."""


def has_timescale(cursor: Cursor[Row]) -> bool:
    """Whether the tables here are made for the extension; one that is installed later changes nothing."""
    plain = any(".plain." in row["name"] for row in run(cursor, "known_migrations"))
    return not plain and bool(run(cursor, "timescale_installed"))


def migrate(database: Database, window_ms: int) -> list[str]:
    """Bring the database's schema up to date; safe to call from many processes at once.

    Returns:
        The names of the migrations that were run now.

    Raises:
        DatabaseEncodingError: the database is not in UTF-8.
        WindowLengthError: the counts there are of another window length.
        psycopg.Error: the database cannot be reached, or the user may not create tables.
    """
    done: list[str] = []
    with database.transaction() as cursor:
        encoding = run(cursor, "encoding")[0]["encoding"]
        if encoding != "UTF8":
            raise DatabaseEncodingError(
                f"the database stores text as {encoding}, which has no room for every event: make one with "
                "CREATE DATABASE funnelwatch ENCODING 'UTF8' TEMPLATE template0, and name it in "
                "FUNNELWATCH_TIMESCALE_URL"
            )
        run(cursor, "lock_migrations")
        run(cursor, "create_migrations")
        known = {row["name"] for row in run(cursor, "known_migrations")}
        if not known and run(cursor, "timescale_available"):
            run(cursor, "create_timescale")
        other = ".plain." if has_timescale(cursor) else ".timescale."
        for script in sorted((files(__package__) / "migrations").iterdir(), key=lambda entry: entry.name):
            if not script.name.endswith(".sql") or script.name in known or other in script.name:
                continue
            cursor.execute(script.read_text())
            run(cursor, "note_migration", {"name": script.name})
            done.append(script.name)
        run(cursor, "set_window_length", {"window_ms": window_ms})
        kept = run(cursor, "window_length")[0]["window_ms"]
        if kept != window_ms:
            raise WindowLengthError(
                f"the database has counts in windows of {kept / 1000:g} s, but FUNNELWATCH_WINDOW_S says "
                f"{window_ms / 1000:g}: set it to {kept // 1000}, or use another database"
            )
    return done
