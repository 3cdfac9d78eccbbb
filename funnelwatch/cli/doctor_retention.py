"""How long the database keeps counts, and whether the settings here say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from funnelwatch.cli.doctor_services import Finding
from funnelwatch.format import clock
from funnelwatch.schemas.settings import PREFIX
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.retention import read_kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.rates import Level
    from funnelwatch.sinks.timescale.retention import Kept

SETTINGS: Mapping[Level, str] = {
    "windows": "keep_windows_days",
    "5m": "keep_5m_days",
    "1h": "keep_1h_days",
    "1d": "keep_1d_days",
}


def check_retention(settings: Settings) -> Iterator[Finding]:
    """What is kept; a warning where a worker with these settings would change it."""
    database = Database(settings.timescale_url, application="funnelwatch doctor")
    try:
        kept = read_kept(database)
    except psycopg.errors.UndefinedTable:
        return  # another finding says that there are no tables yet
    except psycopg.Error as error:
        message = f"how long counts are kept cannot be read: {' '.join(str(error).split())}"
        yield Finding("retention", "warning", message, "A worker of this version brings the tables up to date.")
        return
    finally:
        database.close()
    yield from compare(settings, kept)


def compare(settings: Settings, kept: Mapping[Level, Kept]) -> Iterator[Finding]:
    """The findings on what the database keeps, beside what the settings say."""
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
