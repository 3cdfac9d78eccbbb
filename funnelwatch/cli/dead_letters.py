"""``funnelwatch dead-letters``: what was rejected, why, and producing it again."""

from __future__ import annotations

import json
from collections import Counter, deque
from typing import TYPE_CHECKING

import click
import psycopg

from funnelwatch.cli.dead_letter_reading import clear_letter_errors, letters_of, reason_option, since_option
from funnelwatch.cli.dead_letter_view import as_record, draw_letters, draw_summary, one_letter
from funnelwatch.cli.errors import database_error, moment_ms
from funnelwatch.cli.replaying import replay
from funnelwatch.producers.kafka.topic_reader import TopicReader
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.funnels import load_funnels
from funnelwatch.schemas.settings import Settings, load_settings
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.replays import ReplayStore
from funnelwatch.stream.intake.dead_letter_log import DeadLetter, metric_validator_of, parse_letter, validator_of

if TYPE_CHECKING:
    from funnelwatch.sinks.timescale.replays import RecordPlace


@click.group()
def dead_letters() -> None:
    r"""Show rejected records with the reason, and produce them again after a fix.

    Every event that cannot be counted is kept in the dead-letter topic with its reason. A record that was sent there
    twice, after a crash, is shown and counted once.

    \b
    Examples:
      funnelwatch dead-letters list --since 1d
      funnelwatch dead-letters show 2:1507
      funnelwatch dead-letters replay --reason UNKNOWN_STEP --dry-run
    """


@dead_letters.command("list")
@reason_option
@since_option
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="Show the newest so many.")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object.")
def list_letters(reasons: tuple[str, ...], since: str | None, limit: int, to_json: bool) -> None:
    r"""List the newest dead letters, newest last, and count all of them by reason.

    \b
    Examples:
      funnelwatch dead-letters list
      funnelwatch dead-letters list --reason INVALID_AVRO --reason EMPTY --since 2h --limit 100
      funnelwatch dead-letters list --limit 0 --json
    """
    settings = load_settings()
    by_reason: Counter[str] = Counter()
    newest: deque[DeadLetter] = deque(maxlen=limit)
    since_ms = None if since is None else moment_ms(since, wall_clock_ms())
    for letter in letters_of(settings, reasons, since_ms):
        by_reason[letter.reason] += 1
        newest.append(letter)
    shown = sorted(newest, key=lambda letter: (letter.sent_ms, letter.partition, letter.offset))
    replayed = _replayed(settings) if shown else set()
    if to_json:
        content = {
            "topic": settings.dead_letters_topic,
            "total": by_reason.total(),
            "by_reason": dict(by_reason.most_common()),
            "letters": [as_record(letter, replayed) for letter in shown],
        }
        click.echo(json.dumps(content, indent=2))
        return
    draw_letters(shown, replayed)
    draw_summary(settings.dead_letters_topic, by_reason)


class Position(click.ParamType):
    """PARTITION:OFFSET."""

    name = "partition:offset"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """The two numbers."""
        if isinstance(value, tuple):
            return value
        partition, colon, offset = value.partition(":")
        if not (colon and partition.isdecimal() and offset.isdecimal()) or int(partition) >= 2**31:
            self.fail(f"{value!r} is no position in the topic; right would be 2:1507", param, ctx)
        return int(partition), min(int(offset), 2**63 - 1)


@dead_letters.command("show")
@click.argument("position", type=Position(), metavar="PARTITION:OFFSET")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object; the bytes are hexadecimal.")
def show(position: tuple[int, int], to_json: bool) -> None:
    r"""Show one dead letter: its headers, its first bytes, what decodes of it, and whether it would be accepted now.

    PARTITION:OFFSET is its place in the dead-letter topic, as `funnelwatch dead-letters list` shows it.

    \b
    Examples:
      funnelwatch dead-letters show 2:1507
      funnelwatch dead-letters show 2:1507 --json
    """
    settings = load_settings()
    topic = settings.dead_letters_topic
    with clear_letter_errors(settings), TopicReader(settings, topic) as reader:
        message = reader.one(*position)
        if message is None:
            partition, offset = position
            raise click.ClickException(f"{topic} has no letter at {partition}:{offset}; {_what_there_is(reader)}")
        letter = parse_letter(message)
        is_metric = letter.source is not None and letter.source.topic == settings.metrics_topic
        validator = (
            metric_validator_of(settings) if is_metric else validator_of(settings, load_funnels(settings.funnels_path))
        )
        click.echo(one_letter(letter, validator, wall_clock_ms(), to_json=to_json))


dead_letters.add_command(replay)


def _what_there_is(reader: TopicReader) -> str:
    ranges = {number: reader.range_of(number) for number in reader.partitions()}
    there = [f"{number}:{low} to {number}:{high - 1}" for number, (low, high) in ranges.items() if high > low]
    return f"it has {', '.join(there)}" if there else "it is empty"


def _replayed(settings: Settings) -> set[RecordPlace]:
    """Places that were replayed; letters can be looked at without the database, but then that is not known."""
    database = Database(settings.timescale_url, application="funnelwatch cli")
    try:
        return ReplayStore(database).replayed()
    except psycopg.Error as error:
        click.echo(f"which letters were replayed is not known: the database {database_error(error)}", err=True)
        return set()
    finally:
        database.close()
