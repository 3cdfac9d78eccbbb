"""``funnelwatch rate``: how many of those who were shown a step made it, where and when."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import click

from funnelwatch.cli.faults import Span, moment_ms, opened
from funnelwatch.cli.rate_view import draw
from funnelwatch.format import clock
from funnelwatch.query.answers import RateQuery
from funnelwatch.query.rates import BadQueryError, NothingThereError, query_rates
from funnelwatch.schemas.events import now_ms
from funnelwatch.schemas.settings import load_settings
from funnelwatch.sinks.timescale.rates import RateStore, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.query.answers import RateResult
    from funnelwatch.sinks.timescale.rates import Basis, Dimension, Known


class By(click.Choice[str]):
    """A dimension, written as an option (app-version) or as a column (app_version)."""

    def __init__(self) -> None:
        super().__init__(["os", "browser", "app-version"], case_sensitive=False)

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name of the column."""
        return str(super().convert(value.replace("_", "-"), param, ctx)).replace("-", "_")


@click.command()
@click.option("--step", help="One step.  [default: every step, in the funnel's order]")
@click.option("--os", help="One operating system.")
@click.option("--browser", help="One browser.")
@click.option("--app-version", help="One version of the app.")
@click.option("--funnel", default="sign_up", show_default=True, help="The funnel.")
@click.option("--since", default="1h", show_default=True, metavar="TIME", help="90s, 15m, 1h, 7d ago, or ISO 8601.")
@click.option("--until", default="now", show_default=True, metavar="TIME", help="End, exclusive; as --since.")
@click.option("--closed", is_flag=True, help="Only windows that are complete.")
@click.option("--by", multiple=True, type=By(), help="Tell these apart; may stand several times.")
@click.option("--every", type=Span(), metavar="SPAN", help="Tell spans of time apart: 5m, 1h, 1d.")
@click.option(
    "--basis",
    type=click.Choice(["window", "cohort"]),
    default="window",
    show_default=True,
    help="What dates a success: its own time, or that of the impression it answers.",
)
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object; rates are 0 to 1.")
@click.option("--csv", "to_csv", is_flag=True, help="Print comma-separated rows with a header; rates are 0 to 1.")
def rate(
    *,
    step: str | None,
    os: str | None,
    browser: str | None,
    app_version: str | None,
    funnel: str,
    since: str,
    until: str,
    closed: bool,
    by: tuple[str, ...],
    every: int | None,
    basis: str,
    to_json: bool,
    to_csv: bool,
) -> None:
    r"""Tell the conversion rate of steps: successes / impressions, with its 95 % interval (Wilson).

    The range is widened to whole windows, or to whole spans of --every. Times are UTC. Exit code 1 if nothing is
    counted there.

    \b
    Examples:
      funnelwatch rate --step VERIFY_SMS_CODE --os iOS --since 1h
      funnelwatch rate --since 7d --by os --by browser
      funnelwatch rate --step VERIFY_SMS_CODE --since 2h --every 5m --csv > rates.csv
      funnelwatch rate --step VERIFY_SMS_CODE --since 2026-11-22T10:00:00Z --until 30m --closed --json
    """
    if to_json and to_csv:
        raise click.UsageError("--json and --csv exclude each other")
    now = now_ms()
    since_ms, until_ms = moment_ms(since, now), moment_ms(until, now)
    settings = load_settings()
    scope = Scope(funnel, step, os, browser, app_version)
    dimensions = cast("tuple[Dimension, ...]", tuple(dict.fromkeys(by)))
    question = RateQuery(scope, since_ms, until_ms, now, dimensions, cast("Basis", basis), every, closed)
    with opened(settings) as database:
        try:
            answer = query_rates(database, settings, question)
        except BadQueryError as error:
            raise click.UsageError(f"--{error.parameter}: {error.message}") from error
        except NothingThereError as error:
            raise click.ClickException(str(error)) from error
        if not answer.found:
            raise click.ClickException(nothing_found(answer, RateStore(database).known()))
    if to_json:
        click.echo(json.dumps(answer.as_object(), indent=2))
    elif to_csv:
        click.echo(answer.as_csv(), nl=False)
        if answer.old:
            click.echo(f"! {answer.old}.", err=True)
    else:
        draw(answer)


def nothing_found(answer: RateResult, known: Sequence[Known]) -> str:
    """What to tell where nothing is counted: what there is."""
    chosen = [f"{name.replace('_', ' ')} {value}" for name, value in answer.filters.items()]
    asked = ", ".join([f"funnel {answer.question.scope.funnel}", *chosen])
    message = f"nothing is counted for {asked} from {clock(answer.from_ms)} to {clock(answer.to_ms)}"
    if not known:
        return f"{message}; the database has no events yet. `funnelwatch simulate` makes some, a worker counts them"
    return "\n".join(
        [
            f"{message}. There is, in the day up to its newest window:",
            *(
                f"  funnel {one.funnel} (newest window {clock(one.newest_ms)}): "
                f"steps {', '.join(one.steps)}; os {', '.join(one.os)}"
                for one in known
            ),
        ]
    )
