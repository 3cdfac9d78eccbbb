"""``funnelwatch alerts``: firing and resolved alerts, from the database or live from the topic."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from funnelwatch.alert_rules.watchdog import is_heartbeat
from funnelwatch.cli.current import overall, warning
from funnelwatch.cli.errors import clear_errors, opened
from funnelwatch.format import clock, percent, printable
from funnelwatch.producers.kafka.topic_reader import TopicReader
from funnelwatch.query.alerts import with_iso_times
from funnelwatch.schemas.codec import Decoder, Registry, RegistryUnavailable, Undecodable
from funnelwatch.schemas.settings import Settings, load_settings
from funnelwatch.sinks.timescale.alerts import AlertStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from confluent_kafka import Message

REMEMBERED = 10_000
"""Messages that are known again when they are published twice."""

REGISTRY_RETRY_S = 1.0

COLOURS = {"firing": "red", "resolved": "green"}


@click.command()
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="How many messages to show.")
@click.option("--follow", is_flag=True, help="Print alerts as they are published, until Ctrl-C.")
@click.option("--from-beginning", is_flag=True, help="With --follow: what the topic still has first.")
@click.option("--state", type=click.Choice(["firing", "resolved"]), help="Only messages with this state.")
@click.option("--current", is_flag=True, help="Only the last message of each alert; not with --follow.")
@click.option("--watchdog", is_flag=True, help="With --follow: the heartbeats of the alerting too.")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object a line.")
def alerts(
    *,
    last: int,
    follow: bool,
    from_beginning: bool,
    state: str | None,
    current: bool,
    watchdog: bool,
    to_json: bool,
) -> None:
    r"""Show alerts, oldest first; times are UTC.

    Without --follow they are read from the database: the newest ones, and none is no error. With --follow they are
    read from the alert topic, without a consumer group: any number of followers disturb nobody. A message that is
    published twice is printed once. Ctrl-C ends with exit code 0. Heartbeats (the alert Watchdog) are shown only when
    they are asked for; the database does not keep them.

    \b
    Examples:
      funnelwatch alerts --last 5
      funnelwatch alerts --current --state firing
      funnelwatch alerts --follow
      funnelwatch alerts --follow --json | jq .lost_conversions
    """
    settings = load_settings()
    if not follow:
        if from_beginning:
            raise click.UsageError("--from-beginning goes with --follow; to see more of the past, raise --last")
        if watchdog:
            raise click.UsageError("--watchdog goes with --follow: the database does not keep heartbeats")
        with opened(settings) as database:
            found = AlertStore(database).recent(last, state=state, current=current)
            stale = warning(overall(database, settings), "Alerts may be missing. ")
        for alert in reversed(found):
            _print(alert, to_json=to_json)
        if not found and not to_json:
            click.echo("no alerts", err=True)
        if stale:
            click.echo(stale, err=True)
        return
    source = click.get_current_context().get_parameter_source("last")
    if current or source is not ParameterSource.DEFAULT:
        raise click.UsageError("--last and --current do not go with --follow; see --from-beginning")
    _follow(settings, from_beginning=from_beginning, state=state, watchdog=watchdog, to_json=to_json)


def _follow(settings: Settings, *, from_beginning: bool, state: str | None, watchdog: bool, to_json: bool) -> None:
    def tell(line: str) -> None:
        click.echo(line, err=True)

    try:
        with clear_errors(settings), TopicReader(settings, settings.alerts_topic) as reader:
            decode = patient_decoder(settings, tell)
            for alert in alerts_of(reader.follow(tell, from_beginning=from_beginning), decode, tell):
                if (watchdog or not is_heartbeat(alert)) and state in {None, alert["state"]}:
                    _print(alert, to_json=to_json)
    except KeyboardInterrupt:
        return


def alerts_of(
    messages: Iterator[Message | None], decode: Callable[[bytes], dict[str, Any]], tell: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """The alerts of messages, each once; a message that is no alert is reported and skipped."""
    seen: dict[tuple[str, int], None] = {}
    for message in messages:
        value = None if message is None else message.value()
        if message is None or value is None:  # a tombstone: the topic is compacted
            continue
        try:
            alert = decode(value)
            with_iso_times(alert)  # raises for a time that no calendar has
        except (Undecodable, ValueError, OverflowError, OSError) as error:
            where = f"{message.topic()}, partition {message.partition()}, offset {message.offset()}"
            tell(f"skipped, no alert: {where}: {error}")
            continue
        key = alert["alert_id"], alert["sequence"]
        if key in seen:
            continue
        seen[key] = None
        if len(seen) > REMEMBERED:
            del seen[next(iter(seen))]
        yield alert


def patient_decoder(settings: Settings, tell: Callable[[str], None]) -> Callable[[bytes], dict[str, Any]]:
    """Bytes to alert; an outage of the schema registry is waited out."""
    decoder = Decoder("Alert", Registry(settings.schema_registry_url) if settings.schema_registry_url else None)

    def decode(value: bytes) -> dict[str, Any]:
        reported = False
        while True:
            try:
                return decoder(value)
            except RegistryUnavailable as error:
                if not reported:
                    tell(f"waiting: {error}")
                    reported = True
                time.sleep(REGISTRY_RETRY_S)

    return decode


def _print(alert: Mapping[str, Any], *, to_json: bool) -> None:
    # click.echo flushes, so that a program at the other end of a pipe has each alert at once.
    click.echo(json.dumps(with_iso_times(alert)) if to_json else as_text(alert))


def as_text(alert: Mapping[str, Any]) -> str:
    """A block: what, where, how bad, since when, which rule.

    Example::

        2026-11-22T12:04:00Z FIRING critical: sign_up VERIFY_SMS_CODE os=iOS (FIRST_DROP)
            rate 31.2 % where 70.1 % to 84.0 % is ordinary (expected 78.1 %), of 812 impressions
            since 2026-11-22T12:01:00Z, 380 conversions lost
            where: browser=Safari, 83 % of the loss
            look first: Does VERIFY_SMS_CODE still work in Safari? Try it there; look at the last front-end release.
            runbook: docs/operations.md
            window 2026-11-22T12:03:00Z to 2026-11-22T12:04:00Z, rule ConversionDrop, alert 5f3a message 0
    """
    state = click.style(alert["state"].upper(), fg=COLOURS.get(alert["state"]), bold=True)
    scope = "".join(f" {printable(name)}={printable(value)}" for name, value in sorted(alert["dimensions"].items()))
    step = f"{printable(alert['funnel'])} {printable(alert['step'])}{scope or ' (all together)'}"
    if alert["basis"] == "instrumentation":
        funnel = "" if alert["funnel"] == "*" else f" of {printable(alert['funnel'])}"
        step = f"{printable(alert['rule'])}{funnel}{scope}"
    low, high = percent(alert["expected_low"]), percent(alert["expected_high"])
    ordinary = f"where {low} to {high} is ordinary (expected {percent(alert['expected_rate'])})"
    lines = [
        f"{clock(alert['window_end'])} {state} {printable(alert['severity'])}: {step} ({printable(alert['reason'])})"
    ]
    if alert["basis"] == "instrumentation":
        summary = alert["annotations"].get("summary", "")
        lines += [printable(summary), f"since {clock(alert['started_at'])}"]
    else:
        shown = "sessions" if alert["basis"] == "session" else "impressions"
        lines += [
            f"rate {percent(alert['rate'])} {ordinary}, of {alert['impressions']:,} {shown}",
            f"since {clock(alert['started_at'])}, {alert['lost_conversions']:,.0f} conversions lost",
        ]
    if steps := alert.get("steps"):
        lines.append(f"steps: {', '.join(map(printable, steps))}")
    if silence := alert.get("silenced_by"):
        lines.append(f"muted by silence {printable(silence)}: nobody is notified")
    if alert["where_dimension"]:
        where = f"{printable(alert['where_dimension'])}={printable(alert['where_value'])}"
        lines.append(f"where: {where}, {percent(alert['where_share'])} of the loss")
    lines += [
        f"{printable(name).replace('_', ' ')}: {printable(text)}"
        for name, text in sorted(alert["annotations"].items(), key=lambda one: (one[0] != "look_first", one))
        if text and name not in {"summary", "description"}  # these repeat the lines above in words
    ]
    lines.append(
        f"window {clock(alert['window_start'])} to {clock(alert['window_end'])}, rule {printable(alert['rule'])}, "
        f"alert {printable(alert['alert_id'])} message {alert['sequence']}"
    )
    return "\n    ".join(lines)
