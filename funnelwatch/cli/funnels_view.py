"""``funnelwatch funnels`` as tables, and its look at the database."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click
import psycopg
from rich.table import Table
from rich.text import Text

from funnelwatch.cli.errors import database_error
from funnelwatch.format import console, lasting, printable
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.funnel_size import ValuesUsed, funnel_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.funnel_size import FunnelSize


def size_of(settings: Settings, funnel: str) -> FunnelSize | None:
    """The size of a funnel; None where it is not known, of which stderr gives the reason."""
    with closing(Database(settings.timescale_url, application="funnelwatch cli")) as database:
        try:
            return funnel_size(database, funnel)
        except psycopg.errors.UndefinedTable:
            reason = "the database has no tables of funnelwatch yet; `funnelwatch worker` makes them"
        except psycopg.Error as error:
            reason = f"the database {database_error(error)}"
    click.echo(f"how much of the limits is used is not known: {reason}", err=True)
    return None


def undeclared(funnel: Mapping[str, Any], size: FunnelSize) -> list[str]:
    """The dimensions that only stored series have: an older declaration had them."""
    return sorted(size.dimensions.keys() - funnel["dimensions"])


def used(funnel: Mapping[str, Any], size: FunnelSize) -> dict[str, Any]:
    """The used part of the limits, as JSON has it."""
    names = (*funnel["dimensions"], *undeclared(funnel, size))
    dimensions = {name: size.dimensions.get(name, ValuesUsed()) for name in names}
    return {
        "series": size.series,
        "folded_series": size.folded_series,
        "events": size.events,
        "folded_events": size.folded_events,
        "dimensions": {
            name: {"values": one.values, "folded_events": one.folded_events} for name, one in dimensions.items()
        },
    }


def draw_list(funnels: Iterable[Mapping[str, Any]]) -> None:
    """Funnels, one a line."""
    rows = [
        (
            printable(one["funnel"]),
            str(len(one["steps"])),
            ", ".join(f"{name} ({limit:,})" for name, limit in one["values"].items()) or "none",
            f"{one['max_series']:,}",
            lasting(one["session_window_s"] * 1000),
            one["timezone"],
        )
        for one in funnels
    ]
    _draw(("Funnel", "Steps", "Dimensions (values)", "Max series", "Session window", "Time zone"), rows)


def draw_funnel(funnel: Mapping[str, Any], size: FunnelSize | None) -> None:
    """One funnel; without a size, what is used is shown as unknown."""
    click.echo(
        f"{printable(funnel['funnel'])}: sessions {lasting(funnel['session_window_s'] * 1000)}, days in "
        f"{funnel['timezone']}"
    )
    for place, step in enumerate(funnel["steps"], 1):
        click.echo(f"{place:>4}. {printable(step)}")
    series = "unknown" if size is None else f"{size.series:,}"
    click.echo(f"series: {series} of {funnel['max_series']:,}")
    rows = []
    for name, limit in funnel["values"].items():
        one = None if size is None else size.dimensions.get(name, ValuesUsed())
        values, folded = ("unknown",) * 2 if one is None else (f"{one.values:,}", f"{one.folded_events:,}")
        rows.append((name, values, f"{limit:,}", folded))
    if size is not None:
        others = {name: size.dimensions[name] for name in undeclared(funnel, size)}
        rows += [(name, f"{one.values:,}", "not declared", f"{one.folded_events:,}") for name, one in others.items()]
    _draw(("Dimension", "Values", "Limit", "Events under (other)"), rows)
    if size is not None:
        click.echo(f"folded: {size.folded_series:,} series, {size.folded_events:,} of {size.events:,} events")


def _draw(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table()
    for heading in headings:
        table.add_column(heading)
    for row in rows:
        table.add_row(*map(Text, row))
    console().print(table)
