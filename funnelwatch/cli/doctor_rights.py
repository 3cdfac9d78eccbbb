"""Checks what the database lets this user and the reader role do, and what an administrator would run."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg

from funnelwatch.cli.doctor_services import Finding
from funnelwatch.sinks.timescale.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from funnelwatch.schemas.settings import Settings


def check_rights(settings: Settings) -> Iterator[Finding]:
    """A worker's user can make the tables; dashboards have a role; the extension is used where it is there."""
    try:
        with closing(Database(settings.timescale_url, application="funnelwatch doctor")) as database:
            [rights] = database.query("rights")
    except psycopg.Error:
        return  # the finding on the database says why
    yield from findings(rights)


def findings(rights: Mapping[str, Any]) -> Iterator[Finding]:
    """The findings for one row of the query ``rights``."""
    role, schema = rights["role"], rights["schema"]
    if schema is None:
        advice = (
            f"An administrator runs CREATE SCHEMA funnelwatch AUTHORIZATION {role}, and sets the role's search_path "
            "to it (docs/running.md)."
        )
        yield Finding("database rights", "FAILED", f"the search path of {role} names no schema that it may use", advice)
        return
    if not rights["tables"] and not rights["may_create"]:
        message = f"{role} may not make tables in the schema {schema}: a worker cannot start as this user"
        advice = "Use the schema's owner for workers; a user that may only read is enough for everything that shows."
        yield Finding("database rights", "warning", message, advice)
    else:
        yield Finding("database rights", "ok", f"{role} uses the schema {schema}")
    if rights["tables"] and not rights["reader"]:
        advice = (
            "An administrator may run CREATE ROLE funnelwatch_reader NOLOGIN, and the next worker that starts grants "
            "it what is for reading; or grant SELECT to a login (docs/running.md)."
        )
        yield Finding("reader role", "ok", f"there is no funnelwatch_reader. {advice}")
    elif rights["tables"] and not rights["reader_may_read"]:
        message = f"funnelwatch_reader may not read the tables in {schema}"
        yield Finding("reader role", "warning", message, "A worker that starts as their owner grants it.")
    if rights["plain_tables"] and (rights["extension"] or rights["extension_available"]):
        message = "the server has TimescaleDB, but the tables were made for plain PostgreSQL"
        advice = (
            "To use it, let an administrator run CREATE EXTENSION timescaledb in an empty database before the first "
            "worker starts there."
        )
        yield Finding("timescaledb", "warning", message, advice)
