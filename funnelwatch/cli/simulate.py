"""``funnelwatch simulate``: events of a simulated sign-up funnel, past or live."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from funnelwatch.cli.dimension import dimension_option
from funnelwatch.cli.producing import INTERRUPTED, clear_errors, make_topics, progress_line
from funnelwatch.producers.files.bulk import produce_events
from funnelwatch.producers.simulate.pacing import paced
from funnelwatch.producers.simulate.profile import SIGN_UP_PROFILE, Incident
from funnelwatch.producers.simulate.simulator import Simulator
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.dimensions import DIMENSION_NAME
from funnelwatch.schemas.settings import load_settings
from funnelwatch.schemas.times import iso, parse_span_ms, parse_time_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from funnelwatch.producers.simulate.profile import Dimension

FOR_EVER_MS = 2**53
INCIDENT_KEYS = ("step", "loss", "start", "for")
"""Keys of an incident; every other one is a dimension."""


@click.command()
@click.option("--rate", type=float, default=60.0, show_default=True, help="Sessions per minute, averaged over a week.")
@click.option("--from", "start", metavar="TIME", help="First ts: now, -8d or ISO 8601.  [default: -1h; live: now]")
@click.option("--to", "end", metavar="TIME", help="End, exclusive.  [default: now; live: until Ctrl-C]")
@click.option("--live", is_flag=True, help="Go on in real time once the past is produced.")
@click.option("--speed", type=float, metavar="X", help="Replay from --from X times as fast as it happened.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed, the same events.")
@click.option(
    "--incident",
    "incidents",
    multiple=True,
    metavar="K=V,...",
    help="Lose successes: step=, loss= (0 to 1), os= or another dimension, start= (default now), for= (10m); "
    "repeatable.",
)
@dimension_option
@click.option("--disorder", default="0s", show_default=True, metavar="SPAN", help="Events arrive up to this late.")
@click.option("--dry-run", is_flag=True, help="Print the events as JSON Lines instead of producing them.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def simulate(
    *,
    rate: float,
    start: str | None,
    end: str | None,
    live: bool,
    speed: float | None,
    seed: int,
    incidents: tuple[str, ...],
    dimensions: tuple[Dimension, ...],
    disorder: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Produce the events of a simulated sign-up funnel: seasons, platforms, retries, incidents; seeded.

    Missing topics are made. Ctrl-C ends a live run; what was taken is delivered first. Further dimensions are in the
    contexts of the events: workers count by those that the funnels file (FUNNELWATCH_FUNNELS_PATH) declares.

    \b
    Examples:
      funnelwatch simulate --from -8d --rate 10
      funnelwatch simulate --live --rate 600 --incident step=VERIFY_SMS_CODE,os=iOS,loss=0.4,start=+2m,for=10m
      funnelwatch simulate --dimension country=DE:0.5,AT,CH --incident step=INPUT_NAME,country=DE
      funnelwatch simulate --from 2026-11-01 --to 2026-11-02 --dry-run > events.jsonl
    """  # noqa: D301 - click's mark is the character, not a backslash
    now = wall_clock_ms()
    if speed is not None and (live or not 0 < speed < math.inf):
        raise click.UsageError("--speed must be above 0, and does not go with --live, which is real time")
    try:
        first = parse_time_ms(start or ("now" if live else "-1h"), now)
        last = parse_time_ms(end, now) if end else FOR_EVER_MS if live else now
        if not 0 <= first < last:
            raise click.UsageError(f"--from {iso(first)} is not before the end")
        simulator = Simulator(
            replace(SIGN_UP_PROFILE, dimensions=dimensions),
            seed=seed,
            rate=rate,
            incidents=[parse_incident(text, now) for text in incidents],
            disorder_ms=parse_span_ms(disorder),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    events: Iterable[Mapping[str, Any]] = simulator.events(first, last)
    if live or speed:
        events = paced(events, now if live else first, speed or 1.0)
    if dry_run:
        for event in events:
            click.echo(json.dumps(event))
        return
    _produce(events, first, last, live=live, as_json=as_json)


def parse_incident(text: str, now: int) -> Incident:
    """An incident from ``step=…,os=…,loss=…,start=…,for=…``.

    Raises:
        ValueError: it is none; the message says what would be right.
    """
    given: dict[str, str] = {}
    for pair in text.split(","):
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or not (key in INCIDENT_KEYS or DIMENSION_NAME.fullmatch(key)):
            raise ValueError(f"--incident: {pair!r} is not one of {'=, '.join(INCIDENT_KEYS)}= or a dimension like os=")
        given[key] = value.strip()
    if "step" not in given:
        raise ValueError("--incident: step= is missing; right would be step=VERIFY_SMS_CODE,os=iOS,loss=0.4")
    start_ms = parse_time_ms(given.get("start", "now"), now)
    try:
        loss = float(given.get("loss", "0.4"))
    except ValueError:
        raise ValueError(f"--incident: loss={given['loss']} is not a number between 0 and 1") from None
    where = {key: value for key, value in given.items() if key not in INCIDENT_KEYS}
    return Incident(start_ms, start_ms + parse_span_ms(given.get("for", "10m")), given["step"], loss, where)


def _produce(events: Iterable[Mapping[str, Any]], first: int, last: int, *, live: bool, as_json: bool) -> None:
    settings = load_settings()
    made = make_topics(settings)
    with clear_errors(), progress_line(f"to {settings.events_topic}") as tell:
        outcome = produce_events(settings, events, lambda count: tell(count, count))
    if as_json:
        end = None if last == FOR_EVER_MS else iso(last)
        click.echo(json.dumps({**asdict(outcome), "topics_made": made, "from": iso(first), "to": end}))
    else:
        click.echo(f"{outcome.produced:,} events produced in {outcome.seconds:.1f} s, {outcome.failed:,} failed")
    if outcome.error:
        raise click.ClickException(f"Kafka at {settings.kafka_bootstrap_servers}: {outcome.error}")
    if outcome.interrupted and not live:
        sys.exit(INTERRUPTED)
