"""Whether figures are current, for commands that show them or the servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from funnelwatch.schemas.freshness import Why, stale_after_ms
from funnelwatch.schemas.redaction import error_clause
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.freshness import FreshnessStore

if TYPE_CHECKING:
    from funnelwatch.schemas.freshness import Freshness
    from funnelwatch.schemas.settings import Settings


def pipeline_line(settings: Settings) -> str:
    """State and sentence of the pipeline as a whole; asks the database."""
    database = Database(settings.timescale_url, application="funnelwatch cli")
    try:
        store = FreshnessStore(database, settings.events_topic)
        if not store.tables():
            return "not started: no worker has run on this database yet (`funnelwatch worker`)"
        found = overall(database, settings)
    except psycopg.Error as error:
        return f"unknown: {error_clause(error)}"
    finally:
        database.close()
    return f"{found.state}: {found.message}"


def overall(database: Database, settings: Settings) -> Freshness:
    """The freshness of all funnels together: the worst."""
    return FreshnessStore(database, settings.events_topic).of(None, stale_after_ms(settings))


def warning(found: Freshness, consequence: str = "") -> str | None:
    """A line for stderr if figures are not current; None if they are, and where nothing was ever counted."""
    if found.state == "fresh" or found.why is Why.NO_WINDOW:
        return None
    return f"! {consequence}{found.message}."
