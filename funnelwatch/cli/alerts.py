"""``funnelwatch alerts``: what fired and what resolved, from the database or as it is published."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from funnelwatch.alert_rules.watchdog import is_heartbeat
from funnelwatch.cli.alert_view import as_text
from funnelwatch.cli.current import overall, warning
from funnelwatch.cli.faults import clear_faults, opened
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


@click.command()
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="How many messages to show.")
@click.option("--follow", is_flag=True, help="Print alerts as they are published, until Ctrl-C.")
@click.option("--from-beginning", is_flag=True, help="With --follow: what the topic still has first.")
@click.option("--state", type=click.Choice(["firing", "resolved"]), help="Only messages that say this.")
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
            told = warning(overall(database, settings), "Alerts may be missing. ")
        for alert in reversed(found):
            _print(alert, to_json=to_json)
        if not found and not to_json:
            click.echo("no alerts", err=True)
        if told:
            click.echo(told, err=True)
        return
    source = click.get_current_context().get_parameter_source("last")
    if current or source is not ParameterSource.DEFAULT:
        raise click.UsageError("--last and --current do not go with --follow; see --from-beginning")
    _follow(settings, from_beginning=from_beginning, state=state, watchdog=watchdog, to_json=to_json)


def _follow(settings: Settings, *, from_beginning: bool, state: str | None, watchdog: bool, to_json: bool) -> None:
    def tell(line: str) -> None:
        click.echo(line, err=True)

    try:
        with clear_faults(settings), TopicReader(settings, settings.alerts_topic) as reader:
            decode = patient_decoder(settings, tell)
            for alert in alerts_of(reader.follow(tell, from_beginning=from_beginning), decode, tell):
                if (watchdog or not is_heartbeat(alert)) and state in {None, alert["state"]}:
                    _print(alert, to_json=to_json)
    except KeyboardInterrupt:
        return


def alerts_of(
    messages: Iterator[Message | None], decode: Callable[[bytes], dict[str, Any]], tell: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """The alerts of messages, each once; what is none is told and passed over."""
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
            tell(f"passed over, no alert: {where}: {error}")
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
        told = False
        while True:
            try:
                return decoder(value)
            except RegistryUnavailable as error:
                if not told:
                    tell(f"waiting: {error}")
                    told = True
                time.sleep(REGISTRY_RETRY_S)

    return decode


def _print(alert: Mapping[str, Any], *, to_json: bool) -> None:
    # click.echo flushes, so that a program at the other end of a pipe has each alert at once.
    click.echo(json.dumps(with_iso_times(alert)) if to_json else as_text(alert))
