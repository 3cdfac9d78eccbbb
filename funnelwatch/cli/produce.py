"""``funnelwatch produce``: events from files."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import funnelwatch.producers
from funnelwatch.cli.producing import INTERRUPTED, clear_errors, make_topics, progress_line
from funnelwatch.producers.files.bulk import Produced, produce_events
from funnelwatch.producers.files.importing import Account, events_of
from funnelwatch.producers.files.mapper import Mapper
from funnelwatch.producers.files.mapping import MappingFileError, load_mapping
from funnelwatch.producers.files.own_rows import own_row
from funnelwatch.producers.files.rows import UnreadableFile
from funnelwatch.schemas.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.producers.files.importing import ToEvents

SHIPPED = Path(funnelwatch.producers.__file__).parent / "mappings"


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--map",
    "mapping",
    type=click.Path(path_type=Path),
    metavar="MAPPING",
    help="YAML file that says what the columns are, or ecom, which is shipped; without it the columns are named like "
    "the fields of an event.",
)
@click.option("--funnel", metavar="NAME", help="Put all events into this funnel; overrides file and mapping.")
@click.option("--dry-run", is_flag=True, help="Print the events as JSON Lines instead of producing them.")
@click.option("--fail-on-rejected", is_flag=True, help="Exit code 1 if any line was rejected.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the summary as one JSON object (with --dry-run: to stderr)."
)
def produce(
    *,
    files: tuple[str, ...],
    mapping: Path | None,
    funnel: str | None,
    dry_run: bool,
    fail_on_rejected: bool,
    as_json: bool,
) -> None:
    """Produce the events of files: JSON Lines or CSV, plain or gzip; - is stdin.

    Lines that make no valid event are rejected, counted by reason and shown; they stop nothing. The same file produced
    twice makes the same event ids. Fields without --map: event_id (optional), sign_up_session_id, step, phase, status,
    ts (ms or ISO 8601), os, browser, app_version, duration_ms, funnel, contexts (CSV: contexts.KEY).

    \b
    Examples:
      funnelwatch produce events.jsonl.gz
      funnelwatch produce clicks.csv.gz --map ecom --dry-run | head
      zcat clicks.csv.gz | funnelwatch produce - --map mapping.yml --json
    """  # noqa: D301 - click's mark is the character, not a backslash
    for name in files:
        if name != "-" and not (Path(name).is_file() or Path(name).is_fifo()):
            raise click.ClickException(f"{name}: there is no such file; nothing was produced")
    to_events = _to_events(mapping, funnel)
    account = Account()
    events = events_of(files, to_events, account)
    try:
        outcome = None
        if dry_run:
            for event in events:
                click.echo(json.dumps(event))
        else:
            outcome = _produce(events, account, _size(files))
    except UnreadableFile as error:
        _summary(account, None, as_json=as_json, to_stderr=dry_run)
        raise click.ClickException(f"{error}; what was read before was used") from error
    _summary(account, outcome, as_json=as_json, to_stderr=dry_run)
    if outcome and outcome.error:
        raise click.ClickException(f"Kafka at {load_settings().kafka_bootstrap_servers}: {outcome.error}")
    if outcome and outcome.interrupted:
        sys.exit(INTERRUPTED)
    if fail_on_rejected and account.rejected:
        sys.exit(1)


def _to_events(mapping: Path | None, funnel: str | None) -> ToEvents:
    if mapping is None:
        return partial(own_row, funnel=funnel)
    shipped = SHIPPED / f"{mapping}.yml"
    try:
        return Mapper(load_mapping(shipped if not mapping.exists() and shipped.is_file() else mapping), funnel)
    except MappingFileError as error:
        raise click.ClickException(str(error)) from error


def _size(files: tuple[str, ...]) -> int | None:
    """Bytes on disk of all files; None where one is not to be had, like stdin."""
    try:
        return sum(Path(name).stat().st_size for name in files) or None
    except OSError:
        return None


def _produce(events: Iterator[dict[str, Any]], account: Account, size: int | None) -> Produced:
    settings = load_settings()
    make_topics(settings)
    with clear_errors(), progress_line(f"to {settings.events_topic}", size) as tell:
        return produce_events(settings, events, lambda count: tell(count, account.read_bytes))


def _summary(account: Account, outcome: Produced | None, *, as_json: bool, to_stderr: bool) -> None:
    for note in account.notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        counts = asdict(account) | {"rejected": dict(account.rejected)}
        del counts["notes"]
        click.echo(json.dumps({**counts, **(asdict(outcome) if outcome else {})}), err=to_stderr)
        return
    rejected = account.rejected.total()
    made = f"{account.lines:,} lines, {account.events:,} events, {rejected:,} lines rejected"
    sent = f"; {outcome.produced:,} events produced in {outcome.seconds:.1f} s" if outcome else ""
    click.echo(made + sent, err=to_stderr)
    for reason, count in account.rejected.most_common():
        click.echo(f"  rejected {count:,} {reason}", err=True)
        for example in account.examples[reason]:
            click.echo(f"    {example}", err=True)
