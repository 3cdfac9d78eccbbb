"""A year of counts, as a deployment of that age has them, for ``make bench-growth``."""

from __future__ import annotations

from contextlib import closing
from importlib.resources import files
from typing import TYPE_CHECKING, cast

from funnelwatch.schemas.counts import Series
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.series import series_ids
from tests.bench.speed.topic import PLACES, STEPS, versions_for

if TYPE_CHECKING:
    from typing import LiteralString

    from funnelwatch.schemas.settings import Settings

FILL = cast("LiteralString", (files(__package__) / "history.sql").read_text())
DONE = """
WITH closed AS (INSERT INTO funnel_progress VALUES ('sign_up', to_timestamp(%(end)s), to_timestamp(%(end)s)))
INSERT INTO detector_progress (funnel, last_window) VALUES ('sign_up', to_timestamp(%(end)s) - interval '1 minute')
"""


def fill_history(settings: Settings, end_ms: int, days: int, series: int) -> int:
    """Make the tables, and in them the counts of each minute before a time, closed and evaluated.

    Args:
        settings: of a database of its own, which is empty.
        end_ms: where the history ends, ms; a whole minute.
        days: how far it goes back.
        series: about how many series, the same that events have.

    Returns:
        How many rows there are.
    """
    given = {
        "end": end_ms / 1000,
        "days": days,
    }
    wanted = {
        Series.of("sign_up", step, os=os, browser=browser, app_version=version)
        for step in STEPS
        for os, browser in PLACES
        for version in versions_for(series)
    }
    with closing(Database(settings.timescale_url)) as database:
        migrate(database, settings.window_ms)
        with database.transaction() as cursor:
            ids = series_ids(cursor, wanted)
            cursor.execute(FILL, {**given, "ids": sorted(ids.values())})
            rows = cursor.rowcount
            cursor.execute(DONE, given)
        materialize(database, end_ms)
        with database.outside_transaction() as cursor:
            cursor.execute("VACUUM ANALYZE window_counts")
            # What the filling has left to write is not to be written while the bench runs.
            cursor.execute("CHECKPOINT")
    return rows
