"""Checks of the database's contents: rights of the user, progress against the logs, retention."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click
import psycopg
from confluent_kafka import KafkaException

from funnelwatch.cli.doctor_services import Finding
from funnelwatch.cli.rebuild_progress import look
from funnelwatch.format import clock
from funnelwatch.producers.kafka.topics import KafkaUnreachable
from funnelwatch.schemas.settings import PREFIX
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.progress import ProgressStore, Standing
from funnelwatch.sinks.timescale.retention import read_kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.rates import Level
    from funnelwatch.sinks.timescale.retention import Kept

FINE = (Standing.IN_ORDER, Standing.NO_LOG)
SETTINGS: Mapping[Level, str] = {
    "windows": "keep_windows_days",
    "5m": "keep_5m_days",
    "1h": "keep_1h_days",
    "1d": "keep_1d_days",
}


def check_rights(settings: Settings) -> Iterator[Finding]:
    """A worker's user can make the tables; dashboards have a role; the extension is used where it is there."""
    try:
        with closing(Database(settings.timescale_url, application="funnelwatch doctor")) as database:
            [rights] = database.query("rights")
    except psycopg.Error:
        return  # the finding on the database gives the reason
    yield from rights_findings(rights)


def rights_findings(rights: Mapping[str, Any]) -> Iterator[Finding]:
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


def check_progress(settings: Settings) -> Iterator[Finding]:
    """A topic whose partitions stand still is a failure; one that is missing, or not counted yet, is none."""
    database = Database(settings.timescale_url, application="funnelwatch doctor")
    try:
        for topic in (settings.events_topic, settings.metrics_topic):
            try:
                _, found = look(settings, ProgressStore(database), topic)
            except (click.ClickException, KafkaException, KafkaUnreachable, psycopg.Error):
                continue  # other findings report missing topics and tables
            stopped = Counter(str(one.standing) for one in found if one.standing not in FINE)
            if stopped:
                what = ", ".join(f"{number} partition(s) {standing}" for standing, number in stopped.items())
                advice = f"`funnelwatch rebuild progress --topic {topic}` sets it; --help explains the choices."
                yield Finding("progress", "FAILED", f"{topic}: what is counted is, in {what}: not counted on", advice)
            elif found:
                yield Finding("progress", "ok", f"{topic}: what is counted is of the log that is there")
    finally:
        database.close()


def check_retention(settings: Settings) -> Iterator[Finding]:
    """Checks the retention; a warning where a worker with these settings would change it."""
    database = Database(settings.timescale_url, application="funnelwatch doctor")
    try:
        kept = read_kept(database)
    except psycopg.errors.UndefinedTable:
        return  # another finding reports the missing tables
    except psycopg.Error as error:
        message = f"how long counts are kept cannot be read: {' '.join(str(error).split())}"
        yield Finding("retention", "warning", message, "A worker of this version brings the tables up to date.")
        return
    finally:
        database.close()
    yield from retention_findings(settings, kept)


def retention_findings(settings: Settings, kept: Mapping[Level, Kept]) -> Iterator[Finding]:
    """The findings on the retention of the database, compared with the settings."""
    differing = [
        f"{PREFIX}{name.upper()} is {getattr(settings, name)} here, but the database keeps {level} {_days(kept[level])}"
        for level, name in SETTINGS.items()
        if getattr(settings, name) != kept[level].days
    ]
    if differing:
        advice = (
            "Give every worker the same settings: the one that starts last decides for all. A longer time brings "
            "nothing back that is dropped already."
        )
        yield Finding("retention", "warning", "; ".join(differing), advice)
    else:
        yield Finding("retention", "ok", ", ".join(f"{level} {_described(one)}" for level, one in kept.items()))


def _days(kept: Kept) -> str:
    return f"for {kept.days} day{'' if kept.days == 1 else 's'}" if kept.days else "for ever"


def _described(kept: Kept) -> str:
    dropped = "" if kept.dropped_ms is None else f" (before {clock(kept.dropped_ms)} some are dropped)"
    return f"{_days(kept)}{dropped}"
