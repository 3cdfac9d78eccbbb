"""The pipeline writes what the design names, and nothing else."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import redis

from funnelwatch.schemas.redaction import revealed
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from tests.stack import wait_until
from tests.traffic import admin, closed_windows, done, prepared, produce, some_events
from tests.worker import worker

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

RELATIONS = """
    SELECT relname FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'S') AND relnamespace = 'public'::regnamespace
"""


def topics(settings: Settings) -> set[str]:
    """All topics of the cluster, of Kafka itself and of Faust included."""
    return set(admin(settings).list_topics(timeout=60).topics)


def keys(settings: Settings) -> set[str]:
    """All keys of the Redis."""
    with redis.Redis.from_url(revealed(settings.redis_url), decode_responses=True) as client:
        return set(client.scan_iter(count=1000))


def relations(settings: Settings) -> set[str]:
    """All tables, views and sequences of the database."""
    with psycopg.connect(revealed(settings.timescale_url)) as connection:
        return {name for (name,) in connection.execute(RELATIONS).fetchall()}


def test_a_worker_writes_the_named_topics_tables_and_keys_only(settings: Settings) -> None:
    """Five topics, the tables of the migrations, and the documented keys under the prefix; Faust makes no topic."""
    had_topics, had_keys = topics(settings), keys(settings)
    quick = prepared(settings.model_copy(update={"window_s": 10, "allowed_disorder_s": 1.0}))
    with closing(Database(quick.timescale_url)) as database:
        migrate(database, quick.window_ms)
    had_relations = relations(quick)
    produce(quick, some_events(500))
    with worker(quick) as running:
        running.wait_assigned()
        wait_until(lambda: done(quick, 500), "the events are counted", 120)
        wait_until(lambda: closed_windows(quick), "a window is closed", 120)
        wait_until(lambda: keys(quick) - had_keys, "the cache has them")
    named = {
        quick.events_topic,
        quick.metrics_topic,
        quick.windows_topic,
        quick.alerts_topic,
        quick.dead_letters_topic,
    }
    internal = {"__consumer_offsets", "__transaction_state"}
    assert topics(quick) - had_topics - internal == named
    assert relations(quick) == had_relations
    shape = re.compile(
        rf"\{{{quick.redis_prefix}\}}:(epoch|probe|repairs|copies|whole|copied:{quick.events_topic}|counts:[^:]+:\d+)"
    )
    written = keys(quick) - had_keys
    assert all(shape.fullmatch(key) for key in written), written
