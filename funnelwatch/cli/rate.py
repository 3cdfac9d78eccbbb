"""``funnelwatch rate``: how many of those who were shown a step made it, where and when."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, cast

import click

from funnelwatch.cli.faults import Span, moment_ms, opened
from funnelwatch.cli.rate_view import Answer, as_csv, as_json, draw
from funnelwatch.cli.showing import clock, lasting
from funnelwatch.funnels import load_funnels
from funnelwatch.settings import load_settings
from schemas.events import now_ms
from sinks.timescale.rates import Basis, Dimension, Known, Rate, RateStore, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_ROWS = 10_000
"""Spans of time that are told apart at the most."""


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
    with opened(settings) as database:
        store = RateStore(database)
        window_ms = store.window_ms() or settings.window_ms
        closed_through = store.closed_through(funnel)
        start, end = whole_range(since_ms, until_ms, window_ms, every)
        if closed:
            end = closed_end(start, end, closed_through)
        found = store.rates(scope, start, end, by=dimensions, basis=cast("Basis", basis), every_ms=every)
        if not found:
            raise click.ClickException(nothing_found(scope, start, end, store.known()))
        declared = load_funnels(settings.funnels_path).get(funnel, ())
    starts = range(start, end, every) if every else None
    wanted = declared if step is None and not dimensions else ()
    rows = in_order(found, declared, wanted, starts)
    answer = Answer(scope, cast("Basis", basis), dimensions, start, end, window_ms, closed_through, every, rows)
    if to_json:
        click.echo(as_json(answer))
    elif to_csv:
        click.echo(as_csv(answer), nl=False)
    else:
        draw(answer)


def whole_range(since_ms: int, until_ms: int, window_ms: int, every_ms: int | None) -> tuple[int, int]:
    """The range of whole windows, ``[start, end)``, that holds a range; it starts with a whole span of ``every_ms``.

    Raises:
        click.UsageError: it is empty, the span is no multiple of the window, or there are too many of it.
    """
    if since_ms >= until_ms:
        raise click.UsageError(f"--since {clock(since_ms)} is not before --until {clock(until_ms)}")
    if every_ms is not None and (every_ms <= 0 or every_ms % window_ms):
        raise click.UsageError(f"--every must be a multiple of the window, which is {lasting(window_ms)}")
    step = every_ms or window_ms
    start = since_ms - since_ms % step
    end = until_ms + -until_ms % window_ms
    if every_ms and (end - start) / every_ms > MOST_ROWS:
        raise click.UsageError(f"--every: more than {MOST_ROWS:,} spans; take a longer one or a shorter range")
    return start, end


def closed_end(start: int, end: int, closed_through: int | None) -> int:
    """The end of what is complete of a range.

    Raises:
        click.ClickException: nothing of it is.
    """
    if closed_through is None:
        raise click.ClickException("no window of this funnel is complete yet; leave out --closed, or wait")
    if closed_through <= start:
        raise click.ClickException(
            f"windows are complete up to {clock(closed_through)}, which is not after --since {clock(start)}; is a "
            "worker running? `funnelwatch doctor` tells how far behind it is"
        )
    return min(end, closed_through)


def in_order(
    found: Iterable[Rate], declared: Sequence[str], wanted: Iterable[str], starts: Sequence[int] | None
) -> list[Rate]:
    """Rates by step in the funnel's order (other steps after them), then by dimensions, then by time.

    What has no counts is filled in with zeros: a step of ``wanted``, and a span of time of a series that is there.
    """
    place = {step: number for number, step in enumerate(declared)}
    known = {(rate.step, rate.os, rate.browser, rate.app_version, rate.start_ms): rate for rate in found}
    series = {(rate.step, rate.os, rate.browser, rate.app_version) for rate in known.values()}
    series |= {(step, "", "", "") for step in wanted}
    ordered = sorted(series, key=lambda key: (place.get(key[0], len(place)), *key))
    return [
        known.get((*key, start)) or Rate(key[0], key[1], key[2], key[3], start_ms=start)
        for key, start in product(ordered, [None] if starts is None else starts)
    ]


def nothing_found(scope: Scope, start: int, end: int, known: Sequence[Known]) -> str:
    """What to tell where nothing is counted: what there is."""
    chosen = [
        f"{name} {value}"
        for name, value in (
            ("step", scope.step),
            ("os", scope.os),
            ("browser", scope.browser),
            ("app version", scope.app_version),
        )
        if value is not None
    ]
    asked = ", ".join([f"funnel {scope.funnel}", *chosen])
    message = f"nothing is counted for {asked} from {clock(start)} to {clock(end)}"
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
