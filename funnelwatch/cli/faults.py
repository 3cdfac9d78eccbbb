"""What the reading commands share: a server that is away is one clear line that says what to do, and exit code 1."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import click
import psycopg
import redis
from confluent_kafka import KafkaException

from funnelwatch import asking
from funnelwatch.funnels import FunnelsFileError
from producers.times import parse_span_ms
from producers.topics import KafkaUnreachable
from schemas.codec import RegistryUnavailable
from sinks.redis.client import explain
from sinks.timescale.database import Database
from sinks.timescale.migrations import WindowLengthError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.settings import Settings

START = "Start it (`funnelwatch up` starts one here), or set {variable} to where it is"


class Span(click.ParamType):
    """A span of time like 5m, in ms."""

    name = "span"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The span; a usage error if it is none."""
        if isinstance(value, int):
            return value
        try:
            span = parse_span_ms(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return span


@contextmanager
def clear_faults(settings: Settings) -> Iterator[None]:
    """Turn what servers and settings do wrong into a ``ClickException``."""
    database, variable = f"the database at {without_password(settings.timescale_url)}", "FUNNELWATCH_TIMESCALE_URL"
    try:
        yield
    except psycopg.errors.UndefinedTable as error:
        raise click.ClickException(
            f"{database} has no tables of funnelwatch yet. A worker makes them when it starts: `funnelwatch worker`"
        ) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        advice = START.format(variable=variable)
        raise click.ClickException(f"{database} does not answer: {one_line(error)}. {advice}") from error
    except psycopg.Error as error:
        raise click.ClickException(f"{database}: {one_line(error)}. Is {variable} right?") from error
    except redis.RedisError as error:
        where, advice = without_password(settings.redis_url), START.format(variable="FUNNELWATCH_REDIS_URL")
        raise click.ClickException(f"Redis at {where} cannot be used: {explain(error)}. {advice}") from error
    except KafkaException as error:
        where = settings.kafka_bootstrap_servers
        advice = START.format(variable="FUNNELWATCH_KAFKA_BOOTSTRAP_SERVERS")
        raise click.ClickException(f"Kafka at {where} does not answer: {error.args[0].str()}. {advice}") from error
    except (KafkaUnreachable, RegistryUnavailable, WindowLengthError, FunnelsFileError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    """The database, for as long as the block runs; its faults are clear ones."""
    database = Database(settings.timescale_url, application="funnelwatch cli")
    with clear_faults(settings):
        try:
            yield database
        finally:
            database.close()


def moment_ms(text: str, now_ms: int) -> int:
    """A time as it is typed after --since and --until: a span means so long ago, else now or ISO 8601 (UTC), in ms.

    Raises:
        click.BadParameter: it is neither.
    """
    try:
        return asking.moment_ms(text, now_ms)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def without_password(url: str) -> str:
    """An address as it may be shown."""
    parts = urlsplit(url)
    if not parts.password:
        return url
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}"))


def one_line(error: Exception) -> str:
    """An error's text without line breaks and closing full stop."""
    return (" ".join(str(error).split()) or type(error).__name__).rstrip(".")
