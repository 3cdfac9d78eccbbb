"""``funnelwatch rebuild``: rebuilds derived data: cache, rollups, windows, progress."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import click

from funnelwatch.cli.errors import opened
from funnelwatch.cli.rebuild_progress import progress
from funnelwatch.cli.rebuild_windows import windows
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.redaction import shown
from funnelwatch.schemas.settings import load_settings
from funnelwatch.schemas.times import HOUR_MS
from funnelwatch.sinks.redis.client import NO_REDIS
from funnelwatch.sinks.redis.configured import count_cache
from funnelwatch.sinks.redis.state import IncompleteError
from funnelwatch.sinks.timescale.cache import CacheSource
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.materializing import materialize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.counts import CountRow, Series
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.database import Database

NO_END_MS = 2**53
TRIES = 5


@click.group()
def rebuild() -> None:
    r"""Rebuild derived data: counts from the topic, the cache from the counts.

    \b
    Examples:
      funnelwatch rebuild windows --from 2h --to now --dry-run
      funnelwatch rebuild redis
      funnelwatch rebuild progress --partition 3
    """


rebuild.add_command(windows)
rebuild.add_command(progress)


@rebuild.command("redis")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object.")
def redis_copy(to_json: bool) -> None:
    r"""Remove the cache in Redis and copy the recent windows from the database again.

    Safe while workers run: they keep counting, and a worker that finds the cache gone rebuilds it too. Only keys of
    this installation (FUNNELWATCH_REDIS_PREFIX) are touched. Until it is done, the board reads the database.

    \b
    Examples:
      funnelwatch rebuild redis
      funnelwatch rebuild redis --json
    """
    settings = load_settings()
    configured = count_cache(settings)
    if configured is None:
        raise click.UsageError(f"{NO_REDIS}, so there is no cache to rebuild: FUNNELWATCH_REDIS_URL is empty")
    with opened(settings) as database, closing(configured) as cache:
        store = CountStore(database)
        # The database is asked first: without it there would be nothing to put in the copy's place.
        store.read(0, 0)
        click.echo("removing the cache", err=True)
        cache.clear()
        now = wall_clock_ms()
        for left in reversed(range(TRIES)):
            click.echo("copying the recent windows from the database", err=True)
            try:
                copied = cache.rebuild(_recent_rows(store, cache.oldest(now)), now, lambda: _places(database, settings))
                break
            except IncompleteError as error:  # somebody removed the copy meanwhile
                if not left:
                    raise click.ClickException(
                        f"Redis at {shown(settings.redis_url)} loses what is written to it; is it being flushed?"
                    ) from error
    if to_json:
        click.echo(json.dumps({"copied": copied}))
    else:
        click.echo(f"{copied:,} series of windows copied to Redis")


@rebuild.command("rollups")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object.")
def rollups(to_json: bool) -> None:
    r"""Bring the counts by 5 minutes, hours and days up to date at once.

    A worker does so every minute. This command does the same now: after a backfill, or without workers. Queries add up
    counts that are not materialized, so this changes their speed, never the numbers.

    \b
    Examples:
      funnelwatch rebuild rollups
      funnelwatch rebuild rollups --json
    """
    with opened(load_settings()) as database:
        materialize(database, wall_clock_ms())
    if to_json:
        click.echo(json.dumps({"refreshed": True}))
    else:
        click.echo("counts by 5 minutes, hours and days are up to date")


def _recent_rows(store: CountStore, oldest: int) -> Iterator[tuple[int, Series, CountRow]]:
    """The rows of the recent windows, newest first, an hour at a time, so that memory holds no more."""
    begin = wall_clock_ms() - HOUR_MS
    yield from store.read(max(oldest, begin), NO_END_MS)
    while begin > oldest:
        yield from store.read(max(oldest, begin - HOUR_MS), begin)
        begin -= HOUR_MS


def _places(database: Database, settings: Settings) -> list[tuple[int, str, int]]:
    counted = CacheSource(database).counted(settings.events_topic)
    return [(partition, place.topic_id, place.offset) for partition, place in counted.items()]
