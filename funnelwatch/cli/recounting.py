"""Recounting a range from the topic for ``funnelwatch rebuild windows``: whether that can be done, and doing it."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import click

from funnelwatch.cli.dead_letter_reading import clear_letter_errors, letters_of
from funnelwatch.cli.producing import progress_line
from funnelwatch.cli.rebuild_progress import describe, look
from funnelwatch.format import clock
from funnelwatch.producers.kafka.topic_reader import NoSuchTopicError, TopicReader, TrimmedError
from funnelwatch.schemas.admission import SeriesLimits
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.funnels import load_funnels
from funnelwatch.sinks.timescale.progress import ProgressStore, Standing
from funnelwatch.sinks.timescale.replays import ReplayStore
from funnelwatch.sinks.timescale.series import SeriesStore
from funnelwatch.stream.aggregate.recount import Recount, first_whole, log_needed_from
from funnelwatch.stream.intake.batches import Record
from funnelwatch.stream.intake.dead_letter_log import validator_of
from funnelwatch.stream.intake.horizons import ReadingHorizons

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka import Message

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.database import Database
    from funnelwatch.sinks.timescale.repairs import Snapshot
    from funnelwatch.stream.aggregate.recount import RejectedAt

AT_ONCE = 2_000


def check_progress(settings: Settings, database: Database) -> None:
    """Reject unless the progress of every partition is of the log that is there.

    Raises:
        click.ClickException: it is not, or nothing was ever counted.
    """
    topic = settings.events_topic
    _, found = look(settings, ProgressStore(database), topic)
    if not found:
        raise click.ClickException(f"nothing of {topic} has been counted: there is nothing to recount")
    for one in found:
        if one.standing is not Standing.IN_ORDER:
            raise click.ClickException(
                f"{describe(one)}. What was counted is not in this log, so it cannot be recounted from it; to go on "
                f"counting see `funnelwatch rebuild progress --help`"
            )


def check_source(settings: Settings, snapshot: Snapshot, from_ms: int) -> None:
    """Reject a range for which counts may have come from elsewhere than this log.

    Raises:
        click.ClickException: they may.
    """
    until = snapshot.elsewhere_until
    if until is None:
        return
    until += _ms(settings.max_future_s)
    if from_ms < until:
        first = until + -until % settings.window_ms
        raise click.ClickException(
            f"until {clock(until)} events may have been counted that this topic does not have: it was made anew and "
            "its progress set (`funnelwatch rebuild progress`), or another topic was counted into this database. "
            f"Windows from {clock(first)} on can be recounted"
        )


def check_logs(settings: Settings, snapshot: Snapshot, from_ms: int) -> None:
    """Reject a range of which retention has removed something.

    Raises:
        click.ClickException: from which window on the range is there.
    """
    needed = _needed_from(settings, from_ms)
    with clear_letter_errors(settings), TopicReader(settings, settings.events_topic) as reader:
        for partition in snapshot.next_offsets:
            _check_log(settings, reader, partition, needed, snapshot.log_times[partition])
    with clear_letter_errors(settings), TopicReader(settings, settings.dead_letters_topic) as reader:
        numbers = reader.partitions()
        if not numbers:
            raise NoSuchTopicError(settings.dead_letters_topic)
        for partition in numbers:
            _check_log(settings, reader, partition, needed, wall_clock_ms())


def _check_log(settings: Settings, reader: TopicReader, partition: int, needed: int, newest: int | None) -> None:
    """Reject if a partition has lost something that is needed; ``newest`` is how new that can be if it has lost all."""
    if not reader.range_of(partition)[0]:
        return
    begins = reader.first_timestamp(partition)
    if begins is None:
        begins = newest
    if begins is not None and begins > needed:
        first = first_whole(begins, _ms(settings.max_future_s), _horizons(settings).behind_ms, settings.window_ms)
        raise click.ClickException(
            f"partition {partition} of {reader.topic} begins at {clock(begins)}, its retention has removed what was "
            f"before, and the log is needed from {clock(needed)} on. Windows from {clock(first)} on can be recounted: "
            f"--from {clock(first)}; the counts of older ones can only come from a backup of the database"
        )


def recount(settings: Settings, database: Database, snapshot: Snapshot, range_ms: tuple[int, int]) -> Recount:
    """Count the log again up to where it was counted at the snapshot; prints progress to stderr, changes nothing.

    Raises:
        click.ClickException: the log was trimmed meanwhile, or the rules are not those by which it was counted.
    """
    needed = _needed_from(settings, range_ms[0])
    rejected: set[RejectedAt] = {
        (letter.source.partition, letter.source.offset, letter.source.timestamp)
        for letter in letters_of(settings, (), max(0, needed))
        if letter.source is not None and letter.source.topic == settings.events_topic
    }
    rejected |= {place[1:] for place in ReplayStore(database).replayed() if place[0] == settings.events_topic}
    funnels = load_funnels(settings.funnels_path)
    series = SeriesStore(database, funnels, SeriesLimits.of(settings, funnels), keeps=False)
    validator = replace(validator_of(settings, funnels), admit=series.admit)
    counting = Recount(validator, rejected, range_ms, settings.window_ms, _horizons(settings))
    topic = settings.events_topic
    with (
        clear_letter_errors(settings),
        TopicReader(settings, topic) as reader,
        progress_line(f"reading {topic}") as tell,
    ):
        try:
            for partition, records in _runs(reader.between(needed, snapshot.next_offsets)):
                counting.add(partition, records, wall_clock_ms())
                tell(counting.records, counting.records)
        except TrimmedError as error:
            raise click.ClickException(
                f"{error} by the retention of {topic}: nothing was changed; try again"
            ) from error
    if counting.disputed:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in counting.disputed.most_common())
        raise click.ClickException(
            f"records that were counted would be rejected by this command's settings ({reasons}), so their counts "
            "would be lost: nothing was changed. Set FUNNELWATCH_FUNNELS_PATH, FUNNELWATCH_SCHEMA_REGISTRY_URL and the "
            "limits as the workers had them then"
        )
    return counting


def _runs(messages: Iterator[Message]) -> Iterator[tuple[int, list[Record]]]:
    """Messages as records, in runs of one partition, bounded."""
    for partition, run in groupby(messages, lambda message: message.partition() or 0):
        records: list[Record] = []
        for message in run:
            offset = message.offset()
            assert offset is not None
            records.append(Record(offset, message.key(), message.value(), message.timestamp()[1]))
            if len(records) == AT_ONCE:
                yield partition, records
                records = []
        yield partition, records


def _needed_from(settings: Settings, from_ms: int) -> int:
    return log_needed_from(from_ms, _ms(settings.max_future_s), _horizons(settings).behind_ms)


def _horizons(settings: Settings) -> ReadingHorizons:
    return ReadingHorizons.of(settings, load_funnels(settings.funnels_path))


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
