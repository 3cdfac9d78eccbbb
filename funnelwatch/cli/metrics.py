"""``funnelwatch metrics``: what counters and timers came to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from funnelwatch.cli.current import overall, warning
from funnelwatch.cli.faults import Span, moment_ms, opened
from funnelwatch.format import clock, console, printable
from funnelwatch.query.metrics import WHO_SENDS, MetricQuery, parse_only, query_metrics
from funnelwatch.query.rates import BadQueryError, NothingThereError
from funnelwatch.schemas.events import now_ms
from funnelwatch.schemas.metrics import MetricKind
from funnelwatch.schemas.settings import load_settings

if TYPE_CHECKING:
    from funnelwatch.query.metrics import MetricResult


def _only(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    try:
        return parse_only(values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("name", required=False)
@click.option("--by", multiple=True, metavar="DIMENSION", help="Tell values of it apart; may stand several times.")
@click.option(
    "--where",
    "only",
    multiple=True,
    callback=_only,
    metavar="NAME=VALUE",
    help="Only those, such as os=iOS; os= means those without it.",
)
@click.option("--since", default="1h", show_default=True, metavar="TIME", help="90s, 15m, 1h, 7d ago, or ISO 8601.")
@click.option("--until", default="now", show_default=True, metavar="TIME", help="End, exclusive; as --since.")
@click.option("--every", type=Span(), metavar="SPAN", help="Tell spans of time apart: 5m, 1h, 1d.")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object.")
@click.option("--csv", "to_csv", is_flag=True, help="Print comma-separated rows with a header.")
def metrics(
    *,
    name: str | None,
    by: tuple[str, ...],
    only: dict[str, str],
    since: str,
    until: str,
    every: int | None,
    to_json: bool,
    to_csv: bool,
) -> None:
    r"""Tell what the counters and timers beside the funnel came to: one of them, or all.

    A counter has the sum of its increments and how many that is a second; a timer its mean, and quantiles that are less
    than 12.5 % off. The range is widened to whole windows, or to whole spans of --every; times are UTC. Exit code 1 if
    nothing is counted there.

    \b
    Examples:
      funnelwatch metrics
      funnelwatch metrics sms_sent --by os --since 6h
      funnelwatch metrics sms_sent --every 5m --csv > sms.csv
      funnelwatch metrics sms_delivery --where os=iOS --by app_version --json
    """
    if to_json and to_csv:
        raise click.UsageError("--json and --csv exclude each other")
    now = now_ms()
    since_ms, until_ms = moment_ms(since, now), moment_ms(until, now)
    settings = load_settings()
    question = MetricQuery(name, since_ms, until_ms, now, tuple(dict.fromkeys(by)), only, every)
    with opened(settings) as database:
        try:
            answer = query_metrics(database, settings, question)
            fresh = overall(database, settings)
        except BadQueryError as error:
            raise click.UsageError(f"--{error.parameter}: {error.message}") from error
        except NothingThereError as error:
            raise click.ClickException(str(error)) from error
    if not answer.totals:
        what = f"nothing is counted for {name or 'any counter or timer'}{_chosen(only)}"
        raise click.ClickException(f"{what} from {clock(answer.from_ms)} to {clock(answer.to_ms)}; {WHO_SENDS}")
    if to_json:
        click.echo(json.dumps({**answer.as_object(), "freshness": fresh.as_object()}, indent=2))
    elif to_csv:
        click.echo(answer.as_csv(), nl=False)
    else:
        _draw(answer)
    if told := warning(fresh):
        click.echo(told, err=True)


def _chosen(only: dict[str, str]) -> str:
    return "".join(f", {dimension} {printable(value)}" for dimension, value in only.items())


def _draw(answer: MetricResult) -> None:
    question, table = answer.question, Table()
    for heading in (*(["From"] if question.every_ms else []), "Name", *question.by):
        table.add_column(printable(heading))
    for heading in ("samples", "total", "a second", "mean ms", "p50 ms", "p90 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    for one in answer.totals:
        cells = [] if one.start_ms is None else [clock(one.start_ms)]
        cells += [printable(text) for text in (one.name, *(one.dimensions[name] for name in question.by))]
        timer = one.kind == MetricKind.TIMER
        cells += [f"{one.samples:,}", "" if timer else f"{one.total:,}", f"{answer.per_second(one):,.2f}"]
        took = [one.value(of) for of in ("mean", "p50", "p90", "p99")] if timer else []
        table.add_row(*map(Text, cells), *("-" if value is None else f"{value:,.0f}" for value in took))
    console().print(table)
