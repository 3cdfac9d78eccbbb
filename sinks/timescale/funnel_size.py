"""How much of its limits a funnel uses: its series, the values of its dimensions, and what is folded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.sinks.timescale.database import Database


@dataclass(frozen=True, slots=True)
class ValuesUsed:
    """One dimension of a funnel.

    Attributes:
        values: how many values it has, ``(other)`` not among them.
        folded_events: events that count under ``(other)``, since the beginning.
    """

    values: int = 0
    folded_events: int = 0


@dataclass(frozen=True, slots=True)
class FunnelSize:
    """The series that a database has of a funnel.

    Attributes:
        series: how many.
        folded_series: how many of them have ``(other)`` in any dimension.
        events: the events that they count, since the beginning.
        folded_events: those of the folded series.
        dimensions: by dimension; dimensions without any value are left out.
    """

    series: int
    folded_series: int
    events: int
    folded_events: int
    dimensions: Mapping[str, ValuesUsed]


def funnel_size(database: Database, funnel: str) -> FunnelSize:
    """The size of a funnel; zeros where it has no series.

    Raises:
        psycopg.Error: the database is away, or has no tables.
    """
    [row] = database.query("funnel_size", {"funnel": funnel})
    values = {
        row["dimension"]: ValuesUsed(row["names"], row["folded_events"])
        for row in database.query("funnel_values", {"funnel": funnel})
    }
    return FunnelSize(row["series"], row["folded_series"], row["events"], row["folded_events"], values)
