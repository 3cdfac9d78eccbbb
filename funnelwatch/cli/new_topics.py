"""Counting on after the embedded Kafka has lost its topics: Tansu's go with it, another program begins with none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from funnelwatch.cli.errors import opened
from funnelwatch.cli.rebuild_progress import look
from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.sinks.timescale.progress import ProgressStore, Standing

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.schemas.settings import Settings


def count_on(settings: Settings, tell: Callable[[str], None]) -> None:
    """Have topics that were counted before counted from the beginning of what they are now; their counts are kept.

    A worker rejects this by itself, because it cannot know whether a topic was lost by accident. To be called only
    where the old topics are gone for sure. Never raises for a server: failures are printed.
    """
    try:
        with opened(settings) as database:
            store = ProgressStore(database)
            counted = [topic for topic in (settings.events_topic, settings.metrics_topic) if store.read(topic)]
            if counted:
                ensure_topics(settings)
            for topic in counted:
                topic_id, found = look(settings, store, topic)
                lost = [one for one in found if one.standing is Standing.OTHER_TOPIC]
                if sum(store.set(topic, topic_id, one, one.beginning) for one in lost):
                    tell(f"{topic}: what it had is gone with the Kafka before; counts are kept, new events are added")
    except click.ClickException as error:
        if "has no tables" not in error.message:
            tell(f"{error.message}; if workers say STOPPED, run `funnelwatch rebuild progress`")
