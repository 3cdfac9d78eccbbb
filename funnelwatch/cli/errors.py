"""Errors of servers and settings as one clear line: the error, its remedy, and exit code 1."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
import psycopg
import redis
from confluent_kafka import KafkaException

from funnelwatch.producers.kafka.rejection import ADVICE, kafka_rejection
from funnelwatch.producers.kafka.topics import KafkaUnreachable
from funnelwatch.query import parameters
from funnelwatch.schemas.codec import RegistryUnavailable
from funnelwatch.schemas.funnels import FunnelsFileError
from funnelwatch.schemas.redaction import error_clause, shown, shown_brokers
from funnelwatch.schemas.times import parse_span_ms
from funnelwatch.sinks.redis.client import explain
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import UnusableDatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings

START = "Start it (`funnelwatch up` starts one here), or set {variable} to where it is"


REJECTIONS = {
    "40": ("is busy", "Another session was in the way: run this again"),
    "55P03": ("is busy", "Another session was in the way: run this again in a moment"),
    "55006": ("is busy", "Another session uses what is wanted: run this again in a moment"),
    "57014": ("ended this for taking too long", "Ask for less, or raise statement_timeout of this user"),
    "53100": ("has no space left", "Make room on its disk"),
    "53300": ("takes no more connections", "Raise max_connections, or end what is not needed"),
    "53": ("is at one of its limits", "Its log says more"),
}
"""SQLSTATE, or its prefix, to its meaning and advice. The server answers, so the advice is not to start it."""

REJECTED_LOGIN = "FATAL:"
COMING_UP = "the database system is"
"""Part of the message of a server that rejects a login; psycopg has no SQLSTATE for a failed connection.

``COMING_UP`` is part of the message of a server that starts up, shuts down or recovers.
"""


class Span(click.ParamType):
    """A span of time like 5m, in ms."""

    name = "span"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The span, ms; a usage error if the text is no span."""
        if isinstance(value, int):
            return value
        try:
            span = parse_span_ms(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return span


@contextmanager
def clear_errors(settings: Settings) -> Iterator[None]:
    """Turn errors of servers and settings into a ``ClickException``."""
    database, variable = f"the database at {shown(settings.timescale_url)}", "FUNNELWATCH_TIMESCALE_URL"
    try:
        yield
    except psycopg.errors.UndefinedTable as error:
        raise click.ClickException(
            f"{database} has no tables of funnelwatch yet. A worker makes them when it starts: `funnelwatch worker`"
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise click.ClickException(
            f"{database} does not let this user do that: {error_clause(error)}. Use a user that may (docs/running.md)"
        ) from error
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise click.ClickException(
            f"{database} takes no writes now: {error_clause(error)}. It is a replica, or an administrator "
            f"made it read only; name the primary in {variable}, or try again later"
        ) from error
    except psycopg.Error as error:
        raise click.ClickException(f"{database} {database_error(error, variable)}") from error
    except redis.RedisError as error:
        where, advice = shown(settings.redis_url), START.format(variable="FUNNELWATCH_REDIS_URL")
        raise click.ClickException(f"Redis at {where} cannot be used: {explain(error)}. {advice}") from error
    except KafkaException as error:
        where = shown_brokers(settings.kafka_bootstrap_servers)
        if rejection := kafka_rejection(settings.kafka()):
            raise click.ClickException(f"Kafka at {where} rejects the connection: {rejection}. {ADVICE}") from error
        advice = START.format(variable="FUNNELWATCH_KAFKA_BOOTSTRAP_SERVERS")
        raise click.ClickException(f"Kafka at {where} does not answer: {error.args[0].str()}. {advice}") from error
    except (KafkaUnreachable, RegistryUnavailable, UnusableDatabaseError, FunnelsFileError) as error:
        raise click.ClickException(str(error)) from error


def database_error(error: psycopg.Error, variable: str = "FUNNELWATCH_TIMESCALE_URL") -> str:
    """An error of the database in one line: its meaning, its own words, and what to do; see ``explain_database``."""
    what, advice = explain_database(error, variable)
    return f"{what}: {error_clause(error)}. {advice}"


def explain_database(error: psycopg.Error, variable: str) -> tuple[str, str]:
    """The meaning of a database error and its remedy; the advice is to start it only if it does not answer.

    Args:
        error: as psycopg raised it; one that the server has sent has an SQLSTATE.
        variable: names the database.
    """
    state, words = error.sqlstate or "", error_clause(error)
    for prefix, found in REJECTIONS.items():
        if state.startswith(prefix):
            return found
    if not state and REJECTED_LOGIN in words and COMING_UP not in words:
        return "rejects the connection", f"See that user, password and database are right in {variable}"
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and state[:2] in {"", "08", "57"}:
        return "does not answer", START.format(variable=variable)
    return "rejects this", f"Is {variable} right?"


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    """The database, while the block runs; its errors become clear lines."""
    database = Database(settings.timescale_url, application="funnelwatch cli")
    with clear_errors(settings):
        try:
            yield database
        finally:
            database.close()


def moment_ms(text: str, now_ms: int) -> int:
    """The time after --since or --until, ms, as ``parameters.moment_ms``.

    Raises:
        click.BadParameter: the text is no time.
    """
    try:
        return parameters.moment_ms(text, now_ms)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
