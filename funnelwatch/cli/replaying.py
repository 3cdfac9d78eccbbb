"""``funnelwatch dead-letters replay``: rejected records to the events topic again."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import click

from funnelwatch.cli.dead_letter_reading import letters_of, reason_option, since_option
from funnelwatch.cli.errors import moment_ms, opened
from funnelwatch.cli.producing import progress_line
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.funnels import load_funnels
from funnelwatch.schemas.settings import Settings, load_settings
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.replays import ReplayStore
from funnelwatch.stream.intake.dead_letter_log import metric_validator_of, rejection_now, validator_of
from funnelwatch.stream.intake.replay import replay as produce_again

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from funnelwatch.sinks.timescale.replays import RecordPlace
    from funnelwatch.stream.aggregate.metric_validator import MetricValidator
    from funnelwatch.stream.intake.dead_letter_log import DeadLetter
    from funnelwatch.stream.intake.validator import EventValidator

CHOSEN = "to be produced"


@click.command("replay")
@reason_option
@since_option
@click.option(
    "--all", "hopeless_too", is_flag=True, help="Also records that would be rejected again by these settings."
)
@click.option("--dry-run", is_flag=True, help="Print what would happen, and produce nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "to_json", is_flag=True, help="Print the outcome as one JSON object; needs --yes or --dry-run.")
def replay(
    *,
    reasons: tuple[str, ...],
    since: str | None,
    hopeless_too: bool,
    dry_run: bool,
    yes: bool,
    to_json: bool,
) -> None:
    r"""Produce the original keys and bytes of dead letters to the events topic again.

    Do this once the cause is fixed: a step was declared, a schema registered, a limit raised (FUNNELWATCH_... must
    be set here as for the workers). A record that would be rejected again is left out; --all takes it along. A letter
    of which only the beginning was kept cannot be replayed.

    Replaying twice is harmless: what was replayed is remembered in the database (table replayed_letters) and left
    out the next time. Only after a crash in the middle are up to 500 records produced again; the same event_id is
    counted once as long as the two are within the duplicate horizon (FUNNELWATCH_DUPLICATE_HORIZON_S, 10 minutes by
    default), so replay again soon after a crash.

    \b
    Examples:
      funnelwatch dead-letters replay --reason UNKNOWN_STEP --dry-run
      funnelwatch dead-letters replay --reason UNKNOWN_STEP --since 2d --yes
    """
    if to_json and not (yes or dry_run):
        raise click.UsageError("--json asks nothing: add --yes or --dry-run")
    settings = load_settings()
    since_ms = None if since is None else moment_ms(since, wall_clock_ms())
    with opened(settings) as database:
        if not dry_run:
            migrate(database, settings.window_ms)
        store = ReplayStore(database)
        sort = sorter(settings, store.replayed(), hopeless_too=hopeless_too)
        sorted_out, chosen = _sort(letters_of(settings, reasons, since_ms), sort)
        if not to_json:
            _tell(sorted_out)
        produced = 0
        if chosen and not dry_run:
            if not yes:
                question = f"Produce {len(chosen):,} record(s) to their topic again?"
                click.confirm(question, abort=True, err=True)
            # Read once more instead of held in memory; what came meanwhile was not asked about and stays.
            letters = letters_of(settings, reasons, since_ms)
            again = (letter for letter in letters if (letter.partition, letter.offset) in chosen)
            produced = _produce(settings, store, again, len(chosen))
    if to_json:
        left_out = {reason: count for reason, count in sorted_out.most_common() if reason != CHOSEN}
        content = {"chosen": len(chosen), "produced": produced, "left_out": left_out, "dry_run": dry_run}
        click.echo(json.dumps(content, indent=2))
    elif not dry_run:
        click.echo(f"{produced:,} record(s) produced to their topic again")


def _sort(
    letters: Iterator[DeadLetter], sort: Callable[[DeadLetter], str]
) -> tuple[Counter[str], set[tuple[int, int]]]:
    """How many letters of each verdict, and the positions of the chosen ones."""
    sorted_out: Counter[str] = Counter()
    chosen: set[tuple[int, int]] = set()
    for letter in letters:
        verdict = sort(letter)
        sorted_out[verdict] += 1
        if verdict == CHOSEN:
            chosen.add((letter.partition, letter.offset))
    return sorted_out, chosen


def _produce(settings: Settings, store: ReplayStore, letters: Iterator[DeadLetter], total: int) -> int:
    produced = 0
    with progress_line("producing again", total) as tell:
        for count in produce_again(settings, store, letters):
            produced += count
            tell(produced, produced)
    return produced


def sorter(settings: Settings, replayed: Collection[RecordPlace], *, hopeless_too: bool) -> Callable[[DeadLetter], str]:
    """The function that gives the reason to leave a letter out, or ``CHOSEN``."""
    validators: dict[str, EventValidator | MetricValidator] = {
        settings.metrics_topic: metric_validator_of(settings),
        settings.events_topic: validator_of(settings, load_funnels(settings.funnels_path)),
    }
    now = wall_clock_ms()

    def verdict(letter: DeadLetter) -> str:
        validator = validators.get(letter.source.topic) if letter.source is not None else None
        if validator is None:
            return "of another topic"
        if letter.truncated_from is not None:
            return "only the beginning is kept"
        if letter.source in replayed:
            return "replayed already"
        if not hopeless_too and rejection_now(validator, letter, now) is not None:
            return "would be rejected again"
        return CHOSEN

    return verdict


def _tell(sorted_out: Counter[str]) -> None:
    if not sorted_out:
        click.echo("no such dead letters", err=True)
    for verdict, count in sorted_out.most_common():
        click.echo(f"{count:>9,} {verdict}", err=True)
