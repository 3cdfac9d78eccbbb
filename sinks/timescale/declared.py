"""The order of a funnel's steps, for queries: the database cannot know it from counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.sinks.timescale.database import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from funnelwatch.sinks.timescale.database import Database


def declare(database: Database, funnels: Mapping[str, Sequence[str]]) -> None:
    """Make the declared funnels known, name to steps in order, in place of those that were.

    Views that show a funnel step by step (``funnel_steps``) have only these.
    """
    rows = [(name, at, step) for name, steps in sorted(funnels.items()) for at, step in enumerate(steps, 1)]
    names, positions, steps = zip(*rows, strict=True) if rows else ((), (), ())
    with database.transaction() as cursor:
        run(cursor, "lock_migrations")
        run(cursor, "forget_declared")
        run(cursor, "declare", {"funnel": list(names), "position": list(positions), "step": list(steps)})
