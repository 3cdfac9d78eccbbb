"""Whether what is counted is of the logs that are there: a worker stops partitions whose progress is of another."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click
import psycopg
from confluent_kafka import KafkaException

from funnelwatch.cli.doctor_services import Finding
from funnelwatch.cli.rebuild_progress import look
from funnelwatch.producers.kafka.topics import KafkaUnreachable
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.progress import ProgressStore, Standing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings

FINE = (Standing.IN_ORDER, Standing.NO_LOG)


def check_progress(settings: Settings) -> Iterator[Finding]:
    """A topic whose partitions stand still is a failure; one that is missing, or not counted yet, is none."""
    database = Database(settings.timescale_url, application="funnelwatch doctor")
    try:
        for topic in (settings.events_topic, settings.metrics_topic):
            try:
                _, found = look(settings, ProgressStore(database), topic)
            except (click.ClickException, KafkaException, KafkaUnreachable, psycopg.Error):
                continue  # the topic or the tables are not there yet, which other findings say
            stopped = Counter(str(one.standing) for one in found if one.standing not in FINE)
            if stopped:
                what = ", ".join(f"{number} partition(s) {standing}" for standing, number in stopped.items())
                advice = f"`funnelwatch rebuild progress --topic {topic}` sets it; --help says what that means."
                yield Finding("progress", "FAILED", f"{topic}: what is counted is, in {what}: not counted on", advice)
            elif found:
                yield Finding("progress", "ok", f"{topic}: what is counted is of the log that is there")
    finally:
        database.close()
