"""``funnelwatch silence``: mute what is known, for a time."""

from __future__ import annotations

import getpass
import json
from dataclasses import replace
from typing import Any

import click

from funnelwatch.alert_rules.loader import RuleFileError, load_rules
from funnelwatch.alert_rules.silences import Silence
from funnelwatch.cli.errors import Span, opened
from funnelwatch.format import clock, lasting, printable
from funnelwatch.query.parameters import parse_where
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.dimensions import check_dimension_name
from funnelwatch.schemas.settings import Settings, load_settings
from funnelwatch.schemas.times import iso, parse_time_ms
from funnelwatch.sinks.timescale.silences import SilenceStore


@click.group()
def silence() -> None:
    r"""Mute known alerts for a time.

    A muted alert is still evaluated, kept and published, marked as silenced_by the silence; nobody is notified. Its
    resolution is notified as usual; if the alert still fires when the silence ends, it is notified then.

    \b
    Examples:
      funnelwatch silence add --step VERIFY_SMS_CODE --where os=iOS --for 2h --comment "SMS provider works on it"
      funnelwatch silence list
      funnelwatch silence expire 3
    """


@silence.command()
@click.option("--rule", help="Name of the rule.")
@click.option("--funnel", help="Name of the funnel.")
@click.option("--step", help="Name of the step.")
@click.option(
    "--where",
    multiple=True,
    metavar="NAME=VALUE",
    help="Only alerts about this value of a dimension, such as os=iOS, not those about all together; repeatable.",
)
@click.option("--for", "span_ms", type=Span(), help="How long, such as 30m, 2h or 1d.")
@click.option("--from", "from_", default="now", show_default=True, help="When it begins, ISO 8601.")
@click.option("--until", help="When it ends, ISO 8601; instead of --for.")
@click.option("--comment", default="", help="Why.")
@click.option("--by", help="Author of the silence; by default this user.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def add(
    *,
    where: tuple[str, ...],
    span_ms: int | None,
    from_: str,
    until: str | None,
    comment: str,
    by: str | None,
    as_json: bool,
    **named: Any,
) -> None:
    r"""Mute the alerts that everything named here fits; name at least one thing.

    \b
    Examples:
      funnelwatch silence add --rule ConversionDrop --for 2h --comment "load test"
      funnelwatch silence add --funnel sign_up --from 2026-11-28T22:00:00Z --until 2026-11-29T02:00:00Z
    """
    if not any(named.values()) and not where:
        raise click.UsageError("name the alerts to mute: --rule, --funnel, --step or --where NAME=VALUE")
    try:
        dimensions = {check_dimension_name(name): value for name, value in parse_where(where).items()}
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--where") from error
    if (span_ms is None) == (until is None):
        raise click.UsageError("name the duration with --for or --until")
    now = wall_clock_ms()
    starts_at = _moment(from_, "--from", now)
    ends_at = _end(starts_at, span_ms) if span_ms is not None else _moment(until or "", "--until", now)
    if ends_at <= max(starts_at, now):
        raise click.UsageError(f"it would end at {clock(ends_at)}, before {'it begins' if ends_at > now else 'now'}")
    settings = load_settings()
    made = Silence(0, starts_at, ends_at, **named, dimensions=dimensions, comment=comment, created_by=by or _user())
    with opened(settings) as database:
        made = replace(made, id=SilenceStore(database).add(made))
    _warn(settings, made)
    click.echo(json.dumps(_record(made, now)) if as_json else _text(made, now))


@silence.command("list")
@click.option("--active", is_flag=True, help="Only those that mute now.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_silences(active: bool, as_json: bool) -> None:
    r"""List silences in the order in which they were made, those that have ended too.

    \b
    Example:
      funnelwatch silence list --active
    """
    now = wall_clock_ms()
    with opened(load_settings()) as database:
        found = [one for one in SilenceStore(database).after(0) if not active or one.state(now) == "active"]
    if as_json:
        click.echo(json.dumps([_record(one, now) for one in found]))
        return
    for one in found:
        click.echo(_text(one, now))
    if not found:
        click.echo("no silences", err=True)


@silence.command()
@click.argument("numbers", nargs=-1, required=True, type=int)
def expire(numbers: tuple[int, ...]) -> None:
    r"""End the silences with these NUMBERS now; muted alerts that still fire are notified then.

    \b
    Example:
      funnelwatch silence expire 3
    """
    with opened(load_settings()) as database:
        ended = SilenceStore(database).expire(list(dict.fromkeys(numbers)), wall_clock_ms())
    for number in ended:
        click.echo(f"silence {number} has ended")
    if left := [str(number) for number in numbers if number not in ended]:
        raise click.ClickException(
            f"not active and not to come: silence {', '.join(left)}; see `funnelwatch silence list`"
        )


def _moment(text: str, option: str, now: int) -> int:
    try:
        moment = parse_time_ms(text, now)
        iso(moment)
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(
            f"{text[:50]!r} is no time such as 2026-11-22T10:00:00Z: {error}", param_hint=option
        ) from error
    return moment


def _end(starts_at: int, span_ms: int) -> int:
    """The end of a span, if a calendar has it: a silence with another end could not be listed."""
    try:
        iso(starts_at + span_ms)
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(f"it would end after the year 9999: {error}", param_hint="--for") from error
    return starts_at + span_ms


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return ""


def _warn(settings: Settings, made: Silence) -> None:
    """Warn if no rule in use here has this name; workers may use other rules."""
    try:
        known = sorted({rule.alert for rule in load_rules(settings.rules_path).rules})
    except RuleFileError:
        return
    if made.rule is not None and made.rule not in known:
        click.echo(f"note: no rule in use here is called {made.rule}; there are {', '.join(known)}", err=True)


def _record(one: Silence, now: int) -> dict[str, Any]:
    return {
        "id": one.id,
        "state": one.state(now),
        "matchers": one.matchers,
        "starts_at": iso(one.starts_at),
        "ends_at": iso(one.ends_at),
        "comment": one.comment,
        "created_by": one.created_by,
    }


def _text(one: Silence, now: int) -> str:
    what = " ".join(f"{name}={printable(value)}" for name, value in one.matchers.items())
    span = f"{clock(one.starts_at)} to {clock(one.ends_at)}"
    state = one.state(now)
    left = f", {lasting(one.ends_at - now)} left" if state == "active" else ""
    who = f" ({printable(one.created_by)})" if one.created_by else ""
    comment = f": {printable(one.comment)}" if one.comment else ""
    return f"silence {one.id} {state}{left}: {what}, {span}{comment}{who}"
