"""``funnelwatch rebuild windows``: the counts of a range made again from the topic, while workers count on."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import redis
from rich.table import Table
from rich.text import Text

from funnelwatch.cli.errors import moment_ms, opened
from funnelwatch.cli.recounting import check_logs, check_progress, check_source, recount
from funnelwatch.format import clock, console, printable
from funnelwatch.query.parameters import BadQueryError
from funnelwatch.query.rates import whole_range
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.counts import CountRow
from funnelwatch.schemas.redaction import error_clause
from funnelwatch.schemas.settings import Settings, load_settings
from funnelwatch.schemas.times import iso
from funnelwatch.sinks.redis.client import NO_REDIS
from funnelwatch.sinks.redis.configured import count_cache
from funnelwatch.sinks.redis.state import IncompleteError
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.repairs import DamagedMeanwhileError, RepairedMeanwhileError, RepairStore
from funnelwatch.sinks.timescale.retention import windows_kept_from
from funnelwatch.stream.aggregate.recount import Recount, by_window, correction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.schemas.counts import Counts, Durations
    from funnelwatch.sinks.timescale.database import Database
    from funnelwatch.sinks.timescale.repairs import Snapshot

SHOWN = 50
"""Windows that are listed; the JSON has all."""


@dataclass(frozen=True, slots=True)
class Repair:
    """The result of a recount: ``changes`` and ``durations``, added to the counts, correct them."""

    range_ms: tuple[int, int]
    snapshot: Snapshot
    counting: Recount
    changes: Counts
    durations: Durations

    @property
    def series(self) -> int:
        """How many series of windows are wrong."""
        return len(self.changes.keys() | {key[:-1] for key in self.durations})


@click.command("windows")
@click.option("--from", "since", required=True, metavar="TIME", help="Begin: 90s, 15m, 1h, 7d ago, or ISO 8601.")
@click.option("--to", "until", required=True, metavar="TIME", help="End, exclusive; as --from, or now.")
@click.option("--dry-run", is_flag=True, help="Print what would change, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object; needs --yes or --dry-run.")
def windows(*, since: str, until: str, dry_run: bool, yes: bool, to_json: bool) -> None:
    r"""Recount a range of windows from the topic, and correct the counts that differ.

    For counts that were damaged in the database: rows deleted, changed or restored from an old backup. Safe while
    workers run: events for the range that they count meanwhile stay counted, and readers see the old counts until the
    corrected ones take their place in one transaction. Running it twice does no harm. The range is widened to whole
    windows.

    The log is counted by the rules of the workers, so FUNNELWATCH_... must be set here as for them. What they have
    rejected stays rejected. Closed windows that change are published again with a higher revision, and the cache in
    Redis is corrected too.

    The topic must hold the range whole, and from about an hour, FUNNELWATCH_MAX_FUTURE_S and
    FUNNELWATCH_DUPLICATE_HORIZON_S before it on.

    \b
    Examples:
      funnelwatch rebuild windows --from 2h --to now --dry-run
      funnelwatch rebuild windows --from 2026-11-22T10:00:00Z --to 2026-11-22T11:00:00Z
      funnelwatch rebuild windows --from 1d --to now --yes --json
    """
    if to_json and not (yes or dry_run):
        raise click.UsageError("--json asks nothing: add --yes or --dry-run")
    settings = load_settings()
    range_ms = _range(settings, since, until)
    with opened(settings) as database:
        migrate(database, settings.window_ms)
        _check_retention(database, range_ms[0])
        found = _find(settings, database, range_ms)
        if not to_json:
            _show(found)
        written = 0
        if found.series and not dry_run:
            if not yes:
                click.confirm(f"Correct {found.series:,} series of windows?", abort=True, err=True)
            _check_retention(database, range_ms[0])  # counting and asking may have taken hours
            written = _write(database, settings, found)
        cache: int | None = 0 if dry_run else _repair_cache(settings, database, found)
    if to_json:
        click.echo(json.dumps(_as_json(found, written=written, cache=cache, dry_run=dry_run), indent=2))
    elif not dry_run:
        click.echo(_outcome(found, written, cache))


def _range(settings: Settings, since: str, until: str) -> tuple[int, int]:
    now = wall_clock_ms()
    since_ms, until_ms = moment_ms(since, now), moment_ms(until, now)
    if until_ms > now:
        which = "is in the future" if since_ms > now else "ends in the future"
        raise click.UsageError(f"the range {which}: it is {clock(now)} now; --to now is the latest end")
    if since_ms >= until_ms:
        raise click.UsageError(f"--from {clock(since_ms)} is not before --to {clock(until_ms)}")
    try:
        return whole_range(since_ms, until_ms, settings.window_ms, None)
    except BadQueryError as error:
        raise click.UsageError(error.message) from error


def _check_retention(database: Database, from_ms: int) -> None:
    """Windows that were dropped for their age are in the rollups still; counted again they would be there twice."""
    kept_from = windows_kept_from(database, wall_clock_ms())
    if kept_from is not None and from_ms < kept_from:
        raise click.ClickException(
            f"windows before {clock(kept_from)} are not kept (FUNNELWATCH_KEEP_WINDOWS_DAYS), only their sums: choose "
            "a later --from"
        )


def _find(settings: Settings, database: Database, range_ms: tuple[int, int]) -> Repair:
    check_progress(settings, database)
    snapshot = RepairStore(database).snapshot(settings.events_topic, *range_ms)
    check_source(settings, snapshot, range_ms[0])
    check_logs(settings, snapshot, range_ms[0])
    counting = recount(settings, database, snapshot, range_ms)
    # Had the topic been made anew meanwhile, something else would have been counted.
    check_progress(settings, database)
    return Repair(
        range_ms,
        snapshot,
        counting,
        correction(counting.counts, snapshot.counts),
        correction(counting.durations, snapshot.durations),
    )


def _write(database: Database, settings: Settings, found: Repair) -> int:
    """Write the correction; how many closed windows will be published again."""
    store = RepairStore(database)
    try:
        return store.correct(settings.events_topic, found.range_ms, found.snapshot, found.changes, found.durations)
    except RepairedMeanwhileError as error:
        raise click.ClickException(
            "counts were repaired by another command meanwhile: nothing was changed; run it again"
        ) from error
    except DamagedMeanwhileError as error:
        raise click.ClickException(
            "counts of the range were changed by hand meanwhile: nothing was changed; run it again"
        ) from error


def _repair_cache(settings: Settings, database: Database, found: Repair) -> int | None:
    """Correct the recent windows in Redis, changed or not: an earlier run may have ended before this step.

    Returns:
        The number of windows; None: no Redis is configured.
    """
    affected = sorted({(series.funnel, window) for window, series in (*found.snapshot.counts, *found.counting.counts)})
    store = CountStore(database)
    configured = count_cache(settings)
    if configured is None:
        return None
    with closing(configured) as cache:
        try:
            return cache.repair(affected, store.read, wall_clock_ms())
        except (redis.RedisError, IncompleteError, KeyboardInterrupt) as error:
            raise click.ClickException(
                f"the counts in the database are right now, but the cache in Redis is not yet ({error_clause(error)}): "
                "run the same command again"
            ) from error


def _sums(counts: Mapping[tuple[str, int], list[int]], window: tuple[str, int]) -> list[int]:
    return counts.get(window, [0] * len(CountRow._fields))


def _show(found: Repair) -> None:
    click.echo(
        f"{found.counting.records:,} records read; {len(found.counting.counts):,} series of windows from "
        f"{clock(found.range_ms[0])} to {clock(found.range_ms[1])}",
        err=True,
    )
    if found.counting.shortened:
        click.echo(
            "more event ids or sessions came within their horizon than are remembered: repetitions and sessions from "
            "beyond that bound may be counted otherwise than workers did",
            err=True,
        )
    if found.durations:
        wrong = len({key[:-1] for key in found.durations})
        click.echo(f"the durations (time to convert) of {wrong:,} series of windows differ", err=True)
    if not found.changes:
        return
    changes, before = by_window(found.changes), by_window(found.snapshot.counts)
    table = Table(title="what was counted, and what is right")
    for heading in ("Window", "Funnel"):
        table.add_column(heading, no_wrap=True)
    for heading in CountRow._fields:
        table.add_column(heading.replace("_", " "), justify="right")
    for window in sorted(changes)[:SHOWN]:
        pairs = zip(_sums(before, window), changes[window], strict=True)
        cells = [f"{was:,} → {was + change:,}" if change else f"{was:,}" for was, change in pairs]
        table.add_row(clock(window[1]), Text(printable(window[0])), *cells)
    console().print(table)
    if len(changes) > SHOWN:
        click.echo(f"and {len(changes) - SHOWN:,} more windows; --json lists all", err=True)


def _as_json(found: Repair, *, written: int, cache: int | None, dry_run: bool) -> dict[str, Any]:
    changes, before = by_window(found.changes), by_window(found.snapshot.counts)
    return {
        "from": iso(found.range_ms[0]),
        "to": iso(found.range_ms[1]),
        "dry_run": dry_run,
        "records_read": found.counting.records,
        "series": len(found.counting.counts),
        "changed_series": found.series,
        "changed_durations": len({key[:-1] for key in found.durations}),
        "published_again": written,
        "cached_windows": cache,
        "windows": [
            {
                "funnel": funnel,
                "window": iso(start),
                "counted": dict(zip(CountRow._fields, _sums(before, (funnel, start)), strict=True)),
                "change": dict(zip(CountRow._fields, change, strict=True)),
            }
            for (funnel, start), change in sorted(changes.items())
        ],
    }


def _outcome(found: Repair, written: int, cache: int | None) -> str:
    copied = NO_REDIS if cache is None else f"{cache:,} recent windows of Redis made equal"
    if not found.series:
        return f"the counts are right; {copied}{'' if cache is None else ' to them'}"
    return f"{found.series:,} series of windows corrected; {written:,} closed windows will be published again; {copied}"
