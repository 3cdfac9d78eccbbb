"""The order of a funnel's steps and its session window, for queries: the database cannot know them from counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.sinks.timescale.database import run

if TYPE_CHECKING:
    from funnelwatch.schemas.funnels import Funnels
    from funnelwatch.sinks.timescale.database import Database


def declare(database: Database, funnels: Funnels) -> None:
    """Make the declared funnels known, in place of those that were.

    Views that show a funnel step by step (``funnel_steps``) have only these.
    """
    windows = {name: funnel.session_window_ms for name, funnel in sorted(funnels.items())}
    rows = [(name, at, step) for name in windows for at, step in enumerate(funnels[name].steps, 1)]
    names, positions, steps = zip(*rows, strict=True) if rows else ((), (), ())
    with database.transaction() as cursor:
        run(cursor, "lock_migrations")
        run(cursor, "forget_declared")
        run(cursor, "declare_funnels", {"funnel": list(windows), "session_window_ms": list(windows.values())})
        run(cursor, "declare", {"funnel": list(names), "position": list(positions), "step": list(steps)})
