"""``funnelwatch rate``: conversion rates of steps, by any dimension and by spans of time."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, cast

import click
from rich.table import Table
from rich.text import Text

from funnelwatch.cli.errors import opened
from funnelwatch.format import bar, clock, console, lasting, percent, printable
from funnelwatch.query.parameters import BadQueryError, parse_filters
from funnelwatch.query.rate_query import RateQuery
from funnelwatch.query.rates import NoDataError, query_rates
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.settings import load_settings
from funnelwatch.sinks.timescale.rates import RateStore, Scope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from funnelwatch.query.results import RateResult
    from funnelwatch.sinks.timescale.rates import Basis, Known

COMMA: Final = re.compile(r"(?<!\\),")
"""Separates values; a comma within a value has a backslash before it."""
MOST_SHOWN: Final = 20
"""A message lists at most this many values of a dimension."""


@click.command()
@click.option("--step", help="One step.  [default: every step, in the funnel's order]")
@click.option("--os", help="Short for --where os=….")
@click.option("--browser", help="Short for --where browser=….")
@click.option("--app-version", help="Short for --where app_version=….")
@click.option(
    "--where",
    multiple=True,
    metavar="NAME=VALUE[,VALUE]",
    help="Select values of any dimension, such as country=DE,AT; country= or country=(none) selects events without "
    r"one. Write a comma within a value as \,. Repeatable.",
)
@click.option("--funnel", default="sign_up", show_default=True, help="The funnel.")
@click.option("--since", default="1h", show_default=True, metavar="TIME", help="90s, 15m, 1h, 7d ago, or ISO 8601.")
@click.option("--until", default="now", show_default=True, metavar="TIME", help="End, exclusive; as --since.")
@click.option("--closed", is_flag=True, help="Only windows that are complete.")
@click.option("--by", multiple=True, metavar="NAME[,NAME]", help="Group by any dimensions of the funnel; repeatable.")
@click.option("--every", metavar="SPAN", help="Group by spans of time: 5m, 1h, 1d.")
@click.option(
    "--basis",
    type=click.Choice(["window", "cohort", "session"]),
    default="window",
    show_default=True,
    help="The time that dates a success: its own, or that of the impression it answers. session: count sessions, each "
    "once, at their first impression of the step.",
)
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object; rates are 0 to 1.")
@click.option("--csv", "to_csv", is_flag=True, help="Print comma-separated rows with a header; rates are 0 to 1.")
def rate(
    *,
    funnel: str,
    where: tuple[str, ...],
    since: str,
    until: str,
    closed: bool,
    by: tuple[str, ...],
    every: str | None,
    basis: str,
    to_json: bool,
    to_csv: bool,
    **short: str | None,
) -> None:
    r"""Print the conversion rate of steps: successes / impressions, with its 95 % interval (Wilson).

    With --basis session it is the share of the sessions that saw the step and completed it, each counted once.
    The dimensions are those that the funnel declares (`funnelwatch funnels show`) or that its stored counts have. The
    range is widened to whole windows, or to whole spans of --every. Times are UTC. The exit code is 1 if the range has
    no counts.

    \b
    Examples:
      funnelwatch rate --step VERIFY_SMS_CODE --os iOS --since 1h
      funnelwatch rate --since 7d --by os,app_version --where app_version=2.4.0,2.4.1
      funnelwatch rate --step VERIFY_SMS_CODE --since 2h --every 5m --csv > rates.csv
      funnelwatch rate --basis session --since 24h --by os
      funnelwatch rate --step VERIFY_SMS_CODE --since 2026-11-22T10:00:00Z --until 30m --closed --json
    """
    if to_json and to_csv:
        raise click.UsageError("--json and --csv exclude each other")
    settings = load_settings()
    try:
        query = RateQuery.parse(
            Scope(funnel, parse_filters(typed_filters(where)), **short),
            wall_clock_ms(),
            since=since,
            until=until,
            by=map(typed_name, by),
            basis=cast("Basis", basis),
            every=every,
            closed=closed,
        )
        with opened(settings) as database:
            result = query_rates(database, settings, query)
            if not result.found:
                raise click.ClickException(nothing_found(result, RateStore(database).known()))
    except BadQueryError as error:
        raise click.UsageError(f"--{error.parameter}: {error.message}") from error
    except NoDataError as error:
        raise click.ClickException(str(error)) from error
    if to_json:
        click.echo(json.dumps(result.as_object(), indent=2))
    elif to_csv:
        click.echo(result.as_csv(), nl=False)
        if result.old:
            click.echo(f"! {result.old}.", err=True)
    else:
        draw(result)


def typed_name(text: str) -> str:
    """The name of a dimension, or several: app-version, as options are written, is app_version."""
    return text.replace("-", "_").lower()


def typed_filters(texts: Sequence[str]) -> Iterator[str]:
    """One NAME=VALUE for each value of NAME=VALUE,VALUE."""
    for text in texts:
        name, equals, values = text.partition("=")
        for value in COMMA.split(values):
            yield typed_name(name) + equals + value.replace("\\,", ",")


def nothing_found(result: RateResult, known: Sequence[Known]) -> str:
    """The message for a range without counts: the funnels, steps and values that have counts."""
    chosen = ", ".join([f"funnel {result.query.scope.funnel}", *chosen_values(result.filters)])
    message = f"no counts for {chosen} from {clock(result.from_ms)} to {clock(result.to_ms)}"
    if not known:
        return f"{message}; the database has no events yet. `funnelwatch simulate` makes some, a worker counts them"
    return "\n".join([f"{message}. There is, in the day up to its newest window:", *map(described, known)])


def described(known: Known) -> str:
    """The steps and values of a funnel, in a line."""
    steps = f"steps {', '.join(known.steps)}"
    values = [f"{name} {some(values)}" for name, values in known.dimensions.items()]
    return f"  funnel {known.funnel} (newest window {clock(known.newest_ms)}): {'; '.join([steps, *values])}"


def chosen_values(filters: Mapping[str, Sequence[str]]) -> list[str]:
    """The filters of a result, for a person."""
    return [f"{name.replace('_', ' ')} {' or '.join(map(printable, values))}" for name, values in filters.items()]


def heading(dimension: str) -> str:
    """The heading of the column of a dimension."""
    return "OS" if dimension == "os" else dimension.replace("_", " ").capitalize()


def some(values: Sequence[str]) -> str:
    """The first values, and how many more there are."""
    more = [f"{len(values) - MOST_SHOWN:,} more"] if len(values) > MOST_SHOWN else []
    return ", ".join([*map(printable, values[:MOST_SHOWN]), *more])


def draw(result: RateResult) -> None:
    """Print a table to stdout, with the range above and remarks below."""
    out, query = console(), result.query
    title = ", ".join([printable(query.scope.funnel), *chosen_values(result.filters), f"by {query.basis}"])
    out.print(Text(f"{title}: {clock(result.from_ms)} to {clock(result.to_ms)}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    if query.every_ms:
        table.add_column("From", no_wrap=True)
    table.add_column("Step", no_wrap=True)
    for dimension in query.by:
        table.add_column(heading(dimension), no_wrap=True)
    counts = ("Sessions", "Successes") if query.basis == "session" else ("Impressions", "Successes", "Failures")
    for figure in (*counts, "Rate", "95 % interval"):
        table.add_column(figure, justify="right", no_wrap=True)
    table.add_column("")
    for rate in result.rates:
        cells = [] if rate.start_ms is None else [clock(rate.start_ms)]
        cells += [printable(rate.step), *map(printable, rate.dimensions.values())]
        cells += [f"{rate.impressions:,}{'*' if rate.open else ''}", f"{rate.successes:,}"]
        cells += [] if query.basis == "session" else [f"{rate.failures:,}"]
        interval = "-" if rate.interval is None else f"{percent(rate.interval[0])} to {percent(rate.interval[1])}"
        cells += [percent(rate.rate), interval]
        table.add_row(*(Text(cell) for cell in cells), Text(bar(rate.rate), style="green"))
    out.print(table)
    for line in remarks(result):
        out.print(Text(line, style="bold yellow" if line.startswith("!") else "dim"))


def remarks(result: RateResult) -> list[str]:
    """Remarks on the figures: stale, incomplete, or counted by cohort or session."""
    lines = [f"! {result.old}."] if result.old else []
    lines.append(completeness(result.window_ms, result.closed_through, result.open_ms))
    if result.query.basis == "session":
        if result.open:
            lines.append(f"* {result.open:,} of these sessions are younger than the session window: they may go on.")
    elif result.query.basis == "cohort":
        lines.append("By cohorts: the newest people shown a step may not have finished it yet.")
    elif any(rate.successes > rate.impressions for rate in result.rates):
        lines.append("More successes than impressions: some result impressions before the range; see --basis cohort.")
    return lines


def completeness(window_ms: int, closed_through: int | None, open_ms: int) -> str:
    """A remark on how far the windows of a range are complete; ``open_ms`` of it are not."""
    if closed_through is None:
        return "No window of this funnel is complete yet: these counts still grow."
    if open_ms:
        return (
            f"Windows of {lasting(window_ms)} are complete up to {clock(closed_through)}; the last {lasting(open_ms)} "
            "of this range still grow (--closed leaves them out)."
        )
    return f"All windows of {lasting(window_ms)} in this range are complete."
