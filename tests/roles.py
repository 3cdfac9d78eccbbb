"""Roles with few rights, and a schema of their own in a database of somebody else's."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "not a secret"


@dataclass(frozen=True)
class Roles:
    """Three ways into one schema.

    Attributes:
        admin: address of the database, as the user that owns it.
        owner: as a role that owns the schema and nothing else.
        reader: as a role that may only read there.
        schema: the schema's name.
        owner_name: the role that owns it.
        reader_name: the role that reads.
    """

    admin: str
    owner: str
    reader: str
    schema: str
    owner_name: str
    reader_name: str

    def admin_runs(self, statement: str, *names: str) -> None:
        """Run a statement as the administrator, its ``{}`` replaced by quoted names."""
        with psycopg.connect(self.admin, autocommit=True) as session:
            session.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]

    def let_read(self) -> None:
        """Grant the reader what docs/running.md says, once the tables are there."""
        self.admin_runs("GRANT USAGE ON SCHEMA {} TO {}", self.schema, self.reader_name)
        self.admin_runs("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}", self.schema, self.reader_name)


@contextlib.contextmanager
def few_rights(database_url: str, schema: str) -> Iterator[Roles]:
    """Roles and a schema in an empty database; the roles are dropped in the end, the schema with its tables too."""
    number = uuid.uuid4().hex[:12]
    owner, reader = f"Owner {number}", f"reader_{number}"
    path = f"-csearch_path={schema_path(schema)}"
    roles = Roles(
        database_url,
        with_login(database_url, owner, path),
        with_login(database_url, reader, path),
        schema,
        owner,
        reader,
    )
    for name in (owner, reader):
        roles.admin_runs(f"CREATE ROLE {{}} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{PASSWORD}'", name)
    roles.admin_runs("ALTER ROLE {} SET default_transaction_read_only = on", reader)
    roles.admin_runs("CREATE SCHEMA {} AUTHORIZATION {}", schema, owner)
    try:
        yield roles
    finally:
        for name in (owner, reader):
            roles.admin_runs("DROP OWNED BY {} CASCADE", name)
            roles.admin_runs("DROP ROLE {}", name)


def schema_path(schema: str) -> str:
    """A schema as a value of ``search_path`` within ``options``, where blanks are escaped."""
    quoted = '"' + schema.replace('"', '""') + '"'
    return quoted.replace("\\", "\\\\").replace(" ", "\\ ")


def with_login(url: str, user: str, options: str = "") -> str:
    """The address with another login, and with options of the session."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    query = f"options={quote(options)}" if options else ""
    return urlunsplit(parts._replace(netloc=f"{quote(user)}:{quote(PASSWORD)}@{place}", query=query))
