"""``funnelwatch metrics``: what counters and timers came to."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from funnelwatch.cli.faults import moment_ms, opened
from funnelwatch.cli.showing import clock, console, printable
from funnelwatch.settings import load_settings
from producers.times import iso
from schemas.events import now_ms
from schemas.metrics import DIMENSION
from sinks.timescale.metric_counts import MetricStore

if TYPE_CHECKING:
    from sinks.timescale.metric_counts import MetricTotal


def _only(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, equals, value in pairs:
        if not (equals and value and DIMENSION.fullmatch(name)):
            raise click.BadParameter(f"{name + equals + value!r} is not NAME=VALUE, such as os=iOS")
    return {name: value for name, _, value in pairs}


@click.command()
@click.argument("name", required=False)
@click.option("--by", multiple=True, metavar="DIMENSION", help="Tell values of it apart; may stand several times.")
@click.option(
    "--where", "only", multiple=True, callback=_only, metavar="NAME=VALUE", help="Only those, such as os=iOS."
)
@click.option("--since", default="1h", show_default=True, metavar="TIME", help="90s, 15m, 1h, 7d ago, or ISO 8601.")
@click.option("--until", default="now", show_default=True, metavar="TIME", help="End, exclusive; as --since.")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object.")
def metrics(
    *, name: str | None, by: tuple[str, ...], only: dict[str, str], since: str, until: str, to_json: bool
) -> None:
    r"""Tell what the counters and timers beside the funnel came to: one of them, or all.

    A counter has the sum of its increments and how many that is a second; a timer its mean, and quantiles that are less
    than 12.5 % off. The range is that of the windows which begin in it. Exit code 1 if nothing is counted there.

    \b
    Examples:
      funnelwatch metrics
      funnelwatch metrics sms_sent --by os --since 6h
      funnelwatch metrics sms_delivery --where os=iOS --by app_version --json
    """
    now = now_ms()
    from_ms, to_ms = moment_ms(since, now), moment_ms(until, now)
    if from_ms >= to_ms:
        raise click.UsageError(f"--since {clock(from_ms)} is not before --until {clock(to_ms)}")
    settings = load_settings()
    from_ms -= from_ms % settings.window_ms
    dimensions = tuple(dict.fromkeys(by))
    with opened(settings) as database:
        found = MetricStore(database).read(from_ms, to_ms, name, dimensions, only)
    if to_json:
        click.echo(
            json.dumps({"from": iso(from_ms), "to": iso(to_ms), "metrics": list(map(_as_object, found))}, indent=2)
        )
    elif found:
        _draw(found, dimensions, (to_ms - from_ms) / 1000)
    if not found:
        what = f"no counter or timer{f' {name}' if name else ''} was counted"
        raise click.ClickException(
            f"{what} from {clock(from_ms)} to {clock(to_ms)}; apps send them with FunnelProducer.counter and .timer "
            "(docs/producing.md)"
        )


def _as_object(one: MetricTotal) -> dict[str, Any]:
    given = asdict(one)
    quantiles = given.pop("quantiles")
    given["first_seen"] = iso(one.first_seen)
    return given | ({f"p{q * 100:g}_ms": value for q, value in quantiles.items()} if one.kind == "TIMER" else {})


def _draw(found: list[MetricTotal], by: tuple[str, ...], seconds: float) -> None:
    table = Table()
    for heading in ("Name", *by):
        table.add_column(printable(heading))
    for heading in ("samples", "total", "a second", "mean ms", "p50 ms", "p90 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    for one in found:
        names = [Text(printable(text)) for text in (one.name, *(one.dimensions[name] or "(none)" for name in by))]
        if one.kind == "TIMER":
            took = [f"{one.total / one.samples:,.0f}", *(f"{value:,.0f}" for value in one.quantiles.values())]
            table.add_row(*names, f"{one.samples:,}", "", f"{one.samples / seconds:,.2f}", *took)
        else:
            table.add_row(*names, f"{one.samples:,}", f"{one.total:,}", f"{one.total / seconds:,.2f}")
    console().print(table)
