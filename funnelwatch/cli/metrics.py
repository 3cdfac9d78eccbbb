"""``funnelwatch metrics``: counters and timers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from funnelwatch.cli.current import overall, warning
from funnelwatch.cli.errors import opened
from funnelwatch.format import clock, console, printable
from funnelwatch.query.metrics import WHO_SENDS, MetricQuery, query_metrics
from funnelwatch.query.parameters import BadQueryError
from funnelwatch.query.rates import NoDataError
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.metrics import MetricKind
from funnelwatch.schemas.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.query.metrics import MetricResult


@click.command()
@click.argument("name", required=False)
@click.option("--by", multiple=True, metavar="NAME[,NAME]", help="Group by these dimensions; repeatable.")
@click.option(
    "--where",
    multiple=True,
    metavar="NAME=VALUE",
    help="Select a value, such as os=iOS; os= selects samples without an os; repeatable.",
)
@click.option("--since", default="1h", show_default=True, metavar="TIME", help="90s, 15m, 1h, 7d ago, or ISO 8601.")
@click.option("--until", default="now", show_default=True, metavar="TIME", help="End, exclusive; as --since.")
@click.option("--every", metavar="SPAN", help="Group by spans of time: 5m, 1h, 1d.")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object.")
@click.option("--csv", "to_csv", is_flag=True, help="Print comma-separated rows with a header.")
def metrics(
    *,
    name: str | None,
    by: tuple[str, ...],
    where: tuple[str, ...],
    since: str,
    until: str,
    every: str | None,
    to_json: bool,
    to_csv: bool,
) -> None:
    r"""Print counters and timers beside the funnel: one of them, or all.

    A counter has the sum of its increments and the rate a second; a timer has its mean, and quantiles that are less
    than 12.5 % off. The range is widened to whole windows, or to whole spans of --every; times are UTC. The exit code
    is 1 if the range has no counts.

    \b
    Examples:
      funnelwatch metrics
      funnelwatch metrics sms_sent --by os --since 6h
      funnelwatch metrics sms_sent --every 5m --csv > sms.csv
      funnelwatch metrics sms_delivery --where os=iOS --by app_version --json
    """
    if to_json and to_csv:
        raise click.UsageError("--json and --csv exclude each other")
    settings = load_settings()
    try:
        query = MetricQuery.parse(name, wall_clock_ms(), since=since, until=until, by=by, where=where, every=every)
        with opened(settings) as database:
            result = query_metrics(database, settings, query)
            fresh = overall(database, settings)
    except BadQueryError as error:
        raise click.UsageError(f"--{error.parameter}: {error.message}") from error
    except NoDataError as error:
        raise click.ClickException(str(error)) from error
    if not result.totals:
        what = f"no counts for {name or 'any counter or timer'}{_chosen(query.where)}"
        raise click.ClickException(f"{what} from {clock(result.from_ms)} to {clock(result.to_ms)}; {WHO_SENDS}")
    if to_json:
        click.echo(json.dumps({**result.as_object(), "freshness": fresh.as_object()}, indent=2))
    elif to_csv:
        click.echo(result.as_csv(), nl=False)
    else:
        _draw(result)
    if message := warning(fresh):
        click.echo(message, err=True)


def _chosen(where: Mapping[str, str]) -> str:
    return "".join(f", {dimension} {printable(value)}" for dimension, value in where.items())


def _draw(result: MetricResult) -> None:
    query, table = result.query, Table()
    for heading in (*(["From"] if query.every_ms else []), "Name", *query.by):
        table.add_column(printable(heading))
    for heading in ("samples", "total", "a second", "mean ms", "p50 ms", "p90 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    for one in result.totals:
        cells = [] if one.start_ms is None else [clock(one.start_ms)]
        cells += [printable(text) for text in (one.name, *(one.dimensions[name] for name in query.by))]
        timer = one.kind == MetricKind.TIMER
        cells += [f"{one.samples:,}", "" if timer else f"{one.total:,}", f"{result.per_second(one):,.2f}"]
        took = [one.value(of) for of in ("mean", "p50", "p90", "p99")] if timer else []
        table.add_row(*map(Text, cells), *("-" if value is None else f"{value:,.0f}" for value in took))
    console().print(table)
