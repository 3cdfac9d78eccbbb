"""Shared by the dead-letter commands: reading letters, and the errors of reading them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from funnelwatch.cli.errors import clear_errors
from funnelwatch.cli.producing import progress_line
from funnelwatch.producers.kafka.topic_reader import NoSuchTopicError, TopicReader
from funnelwatch.schemas.codec import Reason
from funnelwatch.schemas.validation import RejectionReason
from funnelwatch.stream.intake.dead_letter_log import DeadLetter, parse_letter, unique

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from funnelwatch.schemas.settings import Settings

REASONS = [*(str(reason) for reason in Reason), *(str(reason) for reason in RejectionReason), "NO_REASON"]

reason_option = click.option(
    "--reason",
    "reasons",
    multiple=True,
    type=click.Choice(REASONS, case_sensitive=False),
    metavar="REASON",
    help=f"Only this reason; repeatable. One of {', '.join(REASONS)}.",
)
since_option = click.option("--since", metavar="TIME", help="Only letters since: 90s, 15m, 1h, 7d ago, or ISO 8601.")


def letters_of(settings: Settings, reasons: Collection[str], since_ms: int | None) -> Iterator[DeadLetter]:
    """The letters that are there now, each record once, of these reasons (none: all) and since that time.

    Raises:
        click.ClickException: Kafka does not answer, or there is no such topic.
    """
    topic = settings.dead_letters_topic
    with (
        clear_letter_errors(settings),
        TopicReader(settings, topic) as reader,
        progress_line(f"reading {topic}") as tell,
    ):
        letters = (parse_letter(message) for message in reader.to_end(since_ms))
        for number, letter in enumerate(unique(letters), 1):
            tell(number, number)
            if not reasons or letter.reason in reasons:
                yield letter


@contextmanager
def clear_letter_errors(settings: Settings) -> Iterator[None]:
    """As ``clear_errors``, and a missing topic is one too."""
    try:
        with clear_errors(settings):
            yield
    except NoSuchTopicError as error:
        raise click.ClickException(
            f"the topic {error} does not exist; a worker makes it when it starts: `funnelwatch worker`"
        ) from error
