"""``funnelwatch funnel``: how far the sessions came that entered a funnel, step by step in order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from funnelwatch.cli.errors import opened
from funnelwatch.cli.rate import chosen_values, completeness, heading, typed_filters, typed_name
from funnelwatch.format import bar, clock, console, lasting, percent, printable
from funnelwatch.query.funnel import query_funnel
from funnelwatch.query.parameters import BadQueryError, parse_filters
from funnelwatch.query.rate_query import RateQuery
from funnelwatch.query.rates import NoDataError
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.settings import load_settings
from funnelwatch.sinks.timescale.rates import Scope

if TYPE_CHECKING:
    from funnelwatch.query.funnel import FunnelResult
    from funnelwatch.query.funnel_groups import FunnelGroup, FunnelStep


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--since", default="24h", show_default=True, metavar="TIME", help="90s, 15m, 24h, 7d ago, or ISO 8601.")
@click.option("--until", default="now", show_default=True, metavar="TIME", help="End, exclusive; as --since.")
@click.option("--closed", is_flag=True, help="Only windows that are complete.")
@click.option("--by", multiple=True, metavar="NAME[,NAME]", help="Group by any dimensions of the funnel; repeatable.")
@click.option(
    "--where",
    multiple=True,
    metavar="NAME=VALUE[,VALUE]",
    help="Select values of any dimension, as in `funnelwatch rate`; repeatable.",
)
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object; shares are 0 to 1.")
@click.option("--csv", "to_csv", is_flag=True, help="Print comma-separated rows with a header; shares are 0 to 1.")
def funnel(
    *,
    name: str,
    since: str,
    until: str,
    closed: bool,
    by: tuple[str, ...],
    where: tuple[str, ...],
    to_json: bool,
    to_csv: bool,
) -> None:
    r"""Print how far the sessions came that entered a funnel, step by step in order.

    Of the sessions whose first impression of the first step is in the range, each step shows how many reached it in
    order within the session window, and how many of those completed it. A session counts once, with the dimensions at
    its entry. The funnel must be declared (`funnelwatch funnels list`). The range is widened to whole windows. Times
    are UTC. The exit code is 1 if the range has no sessions, or the funnel is not declared.

    \b
    Examples:
      funnelwatch funnel sign_up --since 24h
      funnelwatch funnel sign_up --since 7d --by os
      funnelwatch funnel checkout --where country=DE,AT --json
    """
    if to_json and to_csv:
        raise click.UsageError("--json and --csv exclude each other")
    settings = load_settings()
    try:
        query = RateQuery.parse(
            Scope(name, parse_filters(typed_filters(where))),
            wall_clock_ms(),
            since=since,
            until=until,
            by=map(typed_name, by),
            closed=closed,
        )
        with opened(settings) as database:
            result = query_funnel(database, settings, query)
    except BadQueryError as error:
        raise click.UsageError(f"--{error.parameter}: {error.message}") from error
    except NoDataError as error:
        raise click.ClickException(str(error)) from error
    if not result.found:
        chosen = ", ".join([f"funnel {name}", *chosen_values(result.filters)])
        meant = f"{clock(result.meant.start)} to {clock(result.meant.end)}"
        raise click.ClickException(f"no session of {chosen} entered from {meant}; `funnelwatch rate` shows events")
    if to_json:
        click.echo(json.dumps(result.as_object(), indent=2))
    elif to_csv:
        click.echo(result.as_csv(), nl=False)
        if result.old:
            click.echo(f"! {result.old}.", err=True)
    else:
        draw(result)


def draw(result: FunnelResult) -> None:
    """Print a table to stdout, with the range above, and conversions and remarks below."""
    out, query = console(), result.query
    title = ", ".join([printable(query.scope.funnel), *chosen_values(result.filters), "by sessions"])
    out.print(Text(f"{title}: entered {clock(result.meant.start)} to {clock(result.meant.end)}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for dimension in query.by:
        table.add_column(heading(dimension), no_wrap=True)
    table.add_column("Step", no_wrap=True)
    table.add_column("Reached", justify="right", no_wrap=True)
    table.add_column("")
    for figure in ("Of first", "Of previous", "Completed", "Drop-off"):
        table.add_column(figure, justify="right", no_wrap=True)
    for group in result.groups:
        for position, step in enumerate(group.steps, 1):
            values = map(printable, group.dimensions.values()) if position == 1 else ("" for _ in group.dimensions)
            table.add_row(
                *(Text(value) for value in values),
                Text(f"{position} {printable(step.step)}"),
                Text(f"{step.reached:,}{'*' if step.open else ' '}"),
                Text(bar(step.of_first), style="green"),
                *(Text(cell) for cell in figures(step)),
            )
        if group is not result.groups[-1]:
            table.add_row()
    out.print(table)
    for group in result.groups:
        out.print(Text(conversion(group)))
    for line in remarks(result):
        out.print(Text(line, style="bold yellow" if line.startswith("!") else "dim"))


def figures(step: FunnelStep) -> tuple[str, ...]:
    """The cells of a step behind its bar."""
    dropped = step.dropped
    share = "" if dropped is None or not step.reached else f" ({percent(dropped / step.reached)})"
    return (
        percent(step.of_first),
        percent(step.of_previous),
        f"{step.completed:,}",
        "-" if dropped is None else f"{dropped:,}{share}",
    )


def conversion(group: FunnelGroup) -> str:
    """The funnel of a group from end to end, in a line."""
    values = ", ".join(f"{heading(name)} {printable(value)}" for name, value in group.dimensions.items())
    interval = "" if group.interval is None else f", 95 % {percent(group.interval[0])} to {percent(group.interval[1])}"
    return (
        f"{values + ': ' if values else ''}{group.completed:,} of {group.entered:,} sessions completed the last step: "
        f"{percent(group.rate)}{interval}"
    )


def remarks(result: FunnelResult) -> list[str]:
    """Remarks on the figures: stale, incomplete, or of sessions that may still go on."""
    lines = [f"! {result.old}."] if result.old else []
    lines.append(completeness(result.meant.window_ms, result.meant.closed_through, result.open_ms))
    if result.open:
        lines.append(
            f"* {result.open:,} of the entries are younger than the session window of "
            f"{lasting(result.session_window_ms)}: these sessions are still open and may go on."
        )
    return lines
