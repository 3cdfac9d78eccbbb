"""``funnelwatch rebuild progress``: set where partitions are counted up to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from confluent_kafka import KafkaError, KafkaException, TopicCollection

from funnelwatch.cli.errors import opened
from funnelwatch.deploy.embedded.kafka_client import admin
from funnelwatch.producers.kafka.topic_reader import METADATA_TIMEOUT_S, TopicReader
from funnelwatch.schemas.settings import Settings, load_settings
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.progress import PartitionProgress, ProgressStore, Standing, stand

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@click.command("progress")
@click.option("--topic", help="The topic of events, or of counters and timers. [default: FUNNELWATCH_EVENTS_TOPIC]")
@click.option("--partition", "partitions", type=click.IntRange(0), multiple=True, help="Only this one; repeatable.")
@click.option(
    "--to",
    type=click.Choice(["beginning", "end"]),
    default="beginning",
    show_default=True,
    help="Count everything that the log has, or only what comes from now on.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--force", is_flag=True, help="Also where the progress is in order: counts twice, or skips, what is there."
)
@click.option("--json", "to_json", is_flag=True, help="Print the outcome as one JSON object; needs --yes.")
def progress(*, topic: str | None, partitions: tuple[int, ...], to: str, yes: bool, force: bool, to_json: bool) -> None:
    r"""Set where partitions of the events topic are counted up to, after the topic was made again or trimmed.

    A worker stops a partition whose progress is not of this log, because it cannot know what a person wants: the
    topic was deleted and made again, or retention removed records before they were counted. This sets the progress to
    the beginning (or end) of the log that is there.

    Counts are kept. So events that are counted already and are still in the log would be counted twice, which is why
    this rejects where the progress is in order: --force does it even so. Records that were trimmed are lost.

    Workers that run take up a partition that they have stopped within some seconds.

    \b
    Examples:
      funnelwatch rebuild progress
      funnelwatch rebuild progress --partition 3 --yes
      funnelwatch rebuild progress --topic funnel.events --to end
    """
    if to_json and not yes:
        raise click.UsageError("--json asks nothing: add --yes")
    settings = load_settings()
    topic = topic or settings.events_topic
    with opened(settings) as database:
        migrate(database, settings.window_ms)
        store = ProgressStore(database)
        topic_id, found = look(settings, store, topic)
        unknown = sorted(set(partitions) - {one.partition for one in found})
        if unknown:
            raise click.ClickException(f"partition {unknown[0]} of {topic} has never been counted: nothing to rebuild")
        asked = [one for one in found if not partitions or one.partition in partitions]
        there = [one for one in asked if one.standing is not Standing.NO_LOG]
        wanted = [one for one in there if force or one.standing is not Standing.IN_ORDER]
        if not to_json:
            for one in asked:
                click.echo(describe(one), err=True)
        if not wanted:
            raise click.ClickException(rejection(topic, asked))
        if not yes:
            click.confirm(question(topic, wanted, to), abort=True, err=True)
        done = {}
        for one in wanted:
            offset = one.beginning if to == "beginning" else one.end
            if not store.set(topic, topic_id, one, offset):
                raise click.ClickException(
                    f"partition {one.partition} was moved on meanwhile, so a worker counts it; it is left as it is. "
                    "Look again, or stop the workers first"
                )
            done[one.partition] = offset
    _tell(topic, done, to_json=to_json)


def look(settings: Settings, store: ProgressStore, topic: str) -> tuple[str, list[PartitionProgress]]:
    """Kafka's id of the topic, and how every partition that was ever counted stands.

    Raises:
        click.ClickException: there is no such topic.
        KafkaException: Kafka does not answer.
    """
    recorded = store.read(topic)
    topic_id = _topic_id(settings, topic)
    with TopicReader(settings, topic) as reader:
        logs = {number: reader.range_of(number) for number in reader.partitions() if number in recorded}
        found = []
        for number, (counted_topic, next_offset) in sorted(recorded.items()):
            log = logs.get(number)
            if log is not None and next_offset > log[1]:
                # Not every broker lists the end right (Tansu), so it is asked for in the way that is always right.
                log = log[0], reader.true_end(number)
            standing = stand(topic_id, (counted_topic, next_offset), log)
            found.append(PartitionProgress(number, counted_topic, next_offset, *(log or (0, 0)), standing))
    return topic_id, found


def _topic_id(settings: Settings, topic: str) -> str:
    client = admin(settings.kafka())
    client.list_topics(timeout=METADATA_TIMEOUT_S)  # raises soon where no broker answers
    described = client.describe_topics(TopicCollection([topic]), request_timeout=METADATA_TIMEOUT_S)
    try:
        return str(described[topic].result().topic_id)
    except KafkaException as error:
        if error.args[0].code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_EXCEPTION):
            raise click.ClickException(
                f"there is no topic {topic}; a worker makes the events topic when it starts: `funnelwatch worker`"
            ) from error
        raise


def describe(one: PartitionProgress) -> str:
    """One line on a partition."""
    log = "" if one.standing is Standing.NO_LOG else f"; the log is {one.beginning} to {one.end}"
    lost = f"; {one.lost:,} records were trimmed before they were counted" if one.lost else ""
    return f"partition {one.partition}: counted up to {one.next_offset}: {one.standing}{log}{lost}"


def question(topic: str, wanted: Sequence[PartitionProgress], to: str) -> str:
    """The question that the command asks before it acts."""
    twice = sum(one.next_offset - one.beginning for one in wanted if one.standing is Standing.IN_ORDER)
    skipped = sum(one.end - one.next_offset for one in wanted if one.standing is Standing.IN_ORDER)
    consequence = "Counts are kept"
    if to == "beginning" and twice:
        consequence += f"; {twice:,} RECORDS WILL BE COUNTED TWICE"
    if to == "end" and skipped:
        consequence += f"; {skipped:,} RECORDS WILL NOT BE COUNTED"
    return f"{consequence}. Set {len(wanted)} partition(s) of {topic} to the {to} of the log?"


def rejection(topic: str, asked: Sequence[PartitionProgress]) -> str:
    """Why nothing is done."""
    if not asked:
        return f"nothing of {topic} has been counted: there is no progress to rebuild"
    return (
        f"rejected: the progress of {topic} is in order: a rebuild would count events twice (--to end: skip some); "
        "if you mean that, add --force"
    )


def _tell(topic: str, done: Mapping[int, int], *, to_json: bool) -> None:
    if to_json:
        click.echo(json.dumps({"topic": topic, "set": {str(key): value for key, value in done.items()}}))
        return
    for partition, offset in done.items():
        click.echo(f"partition {partition} of {topic} is counted from offset {offset} on")
    click.echo("Workers that run take up a partition that they have stopped within some seconds.")
