"""The cache in Redis: the totals of recent windows.

After a flush is committed, the worker writes the totals that the database returned, with a max-guard: counts only grow,
so a replay or a slower worker cannot lower them. While Redis is away, counting goes on: a worker records which windows
it could not write, and copies them from the database later (``stream.aggregate.cache_rebuild``).

Readers ask ``is_whole``; while a copy is under way they read the database.

Only a repair lowers counts (``repair``). A writer that holds totals from before the repair, perhaps a frozen one, must
not raise them again: each write carries the number of repairs that its writer knows, and Redis rejects an old number.
"""

from __future__ import annotations

from functools import cached_property
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import redis

from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.redis.completeness import CacheCompleteness, as_text
from funnelwatch.sinks.redis.keys import (
    copied_key,
    copies_key,
    counts_key,
    counts_pattern,
    epoch_key,
    field_name,
    packed,
    parse_field,
    repairs_key,
    unpacked,
    whole_key,
)
from funnelwatch.sinks.redis.state import IncompleteError, MoveMark, RepairedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pydantic import SecretStr

    from funnelwatch.schemas.counts import CountRow, Counts, Series

    Read = Callable[[int, int, str], Iterable[tuple[int, Series, CountRow]]]

RAISE_COUNTS = (files(__package__) / "raise_counts.lua").read_text()

SERIES_AT_ONCE = 5_000
"""Most series of windows in one call, so that other clients of the server do not wait long."""

REDIS_ERRORS = (redis.RedisError, OSError)
"""Errors of the cache: counting goes on without it, and the worker copies the windows later."""

LOST, REPAIRED, CONTINUED, GAP = 0, -1, 1, 2
"""Results of the script of a write."""


class CountCache(CacheCompleteness):
    """A ``TotalsSink``: totals of the windows younger than the cache horizon. A key expires as its window leaves it."""

    def __init__(self, url: str | SecretStr, prefix: str, cache_horizon_s: float, topic: str = "") -> None:
        super().__init__(url, prefix, cache_horizon_s, topic)
        self._repairs = ""

    @cached_property
    def _raise(self) -> Any:
        return self.client.register_script(RAISE_COUNTS)

    def write(self, totals: WindowCounts, now_ms: int, marks: Sequence[MoveMark] = (), epoch: str = "") -> bool:
        """See ``TotalsSink``.

        Args:
            totals: a row for each window and series.
            now_ms: the wall clock.
            marks: of the partitions that were flushed.
            epoch: write to this epoch of the data only; empty: to any.

        Returns:
            Whether each mark stood where it could; False if the cache lacks totals that the writer does not know of.

        Raises:
            IncompleteError: Redis has lost its data, or it was repaired; nothing was written.
            redis.RedisError: an outage; any part is written, and a repeat writes the rest.
        """
        oldest = self.oldest(now_ms)
        parts = list(_parts(totals, oldest))
        if not parts and not marks:
            return True
        calls: list[list[_Part]] = [[]]
        held = 0
        for part in parts:
            if held + len(part.fields) > SERIES_AT_ONCE and calls[-1]:
                calls.append([])
                held = 0
            calls[-1].append(part)
            held += len(part.fields)
        for call in calls[:-1]:
            self._call(call, oldest, (), epoch)
        return self._call(calls[-1], oldest, marks, epoch)

    def _call(self, parts: Sequence[_Part], oldest: int, marks: Sequence[MoveMark], epoch: str) -> bool:
        prefix = self._prefix
        keys = [epoch_key(prefix), repairs_key(prefix), copies_key(prefix), copied_key(prefix, self._topic)]
        arguments: list[str | int | bytes] = [self._repairs, epoch, len(marks)]
        for mark in marks:
            arguments += (mark.partition, mark.topic_id, mark.least, mark.to, int(mark.owes))
        for part in parts:
            keys.append(counts_key(self._prefix, part.funnel, part.window))
            arguments += (max(1, (part.window - oldest) // 1000), len(part.fields), part.totals, *part.fields)
        answer = self._raise(keys=keys, args=arguments)
        if answer == LOST:
            raise IncompleteError("Redis has lost its data")
        if answer == REPAIRED:
            raise RepairedError("counts were repaired")
        return bool(answer == CONTINUED)

    def learn_repairs(self) -> None:
        """Read the number of repairs: totals that are read from the database after this may be written."""
        self._repairs = as_text(self.client.get(repairs_key(self._prefix)))

    def rebuild(
        self,
        rows: Iterable[tuple[int, Series, CountRow]],
        now_ms: int,
        counted: Callable[[], Iterable[tuple[int, str, int]]] = tuple,
    ) -> int:
        """Copy all recent windows from the database in one call; totals that are there stay until they are raised.

        ``rows`` is read after the copy has begun, so that counts which are flushed meanwhile are written by their own
        flush.

        Args:
            rows: the rows of the recent windows, read lazily.
            now_ms: the wall clock.
            counted: reads each partition's topic id and next offset from the database; called before ``rows``.

        Returns:
            The number of copied series of windows.
        """
        epoch = self.begin_epoch()
        self.learn_repairs()
        number = self.begin_copy(epoch)
        places = list(counted())
        self.set_marks("begun", places, epoch)
        copied = 0
        part: Counts = {}
        for window, series, tally in rows:
            part[window, series] = list(tally)
            copied += 1
            if len(part) >= SERIES_AT_ONCE:
                self.write(WindowCounts.of(part), now_ms, epoch=epoch)
                part = {}
        if part:
            self.write(WindowCounts.of(part), now_ms, epoch=epoch)
        self.set_marks("settled", places, epoch)
        self.tell_whole(epoch, number, self.oldest(now_ms))
        return copied

    def repair(self, windows: Iterable[tuple[str, int]], read: Read, now_ms: int) -> int:
        """Lower windows to the counts of the database after a repair; readers see no gap.

        First this rejects all writers until they have learned of the repair, so that no older total comes later. Then
        it sets each window to the database's counts, and raises it again: a writer may have added to it in between.

        Args:
            windows: funnel and start (ms) of each.
            read: reads the rows of a funnel's windows in ``[from_ms, to_ms)`` from the database.
            now_ms: the wall clock.

        Returns:
            The number of windows in the cache; 0 where Redis has lost its data: the next copy reads the new counts.

        Raises:
            redis.RedisError: an outage; repeat the call.
        """
        if not self.client.exists(epoch_key(self._prefix)):
            return 0
        recent = [(funnel, start) for funnel, start in windows if start >= self.oldest(now_ms)]
        self._repairs = str(self.client.incr(repairs_key(self._prefix)))
        for funnel, start in recent:
            self._set(funnel, start, _totals(read(start, start + 1, funnel)), now_ms)
            self.write(WindowCounts.of(_totals(read(start, start + 1, funnel))), now_ms)
        return len(recent)

    def _set(self, funnel: str, start: int, totals: Counts, now_ms: int) -> None:
        name = counts_key(self._prefix, funnel, start)
        right = {field_name(series): packed(tally) for (_, series), tally in totals.items()}
        wrong = [field for field in self.client.hkeys(name) if as_text(field) not in right]
        pairs = list(right.items())
        # A window of ordinary size changes in one transaction.
        for at in range(0, max(len(pairs), len(wrong), 1), SERIES_AT_ONCE):
            with self.client.pipeline() as pipeline:
                if wrong[at : at + SERIES_AT_ONCE]:
                    pipeline.hdel(name, *wrong[at : at + SERIES_AT_ONCE])
                if pairs[at : at + SERIES_AT_ONCE]:
                    pipeline.hset(name, mapping=dict(pairs[at : at + SERIES_AT_ONCE]))
                pipeline.expire(name, max(1, (start - self.oldest(now_ms)) // 1000))
                pipeline.execute()

    def clear(self) -> None:
        """Remove the whole copy, the epoch first, so that no writer adds to it meanwhile."""
        prefix = self._prefix
        self.client.delete(epoch_key(prefix))
        self.client.delete(whole_key(prefix), copied_key(prefix, self._topic))
        for key in self.client.scan_iter(counts_pattern(self._prefix), count=1000):
            self.client.delete(key)

    def read(self, funnel: str, window_ms: int) -> dict[Series, CountRow]:
        """See ``TotalsSink``."""
        return _tallies(funnel, self.client.hgetall(counts_key(self._prefix, funnel, window_ms)))

    def read_many(self, funnel: str, windows: list[int]) -> dict[int, dict[Series, CountRow]]:
        """The totals of several windows, in one round trip."""
        pipeline = self.client.pipeline(transaction=False)
        for window in windows:
            pipeline.hgetall(counts_key(self._prefix, funnel, window))
        return {window: _tallies(funnel, fields) for window, fields in zip(windows, pipeline.execute(), strict=True)}


def _totals(rows: Iterable[tuple[int, Series, CountRow]]) -> Counts:
    return {(window, series): list(tally) for window, series, tally in rows}


def _tallies(funnel: str, fields: Mapping[bytes | str, bytes | str]) -> dict[Series, CountRow]:
    return {parse_field(funnel, as_text(field)): unpacked(cast("bytes", value)) for field, value in fields.items()}


class _Part(NamedTuple):
    """Series of one window of a funnel.

    Attributes:
        fields: the field of each series.
        totals: their packed counts, one after the other.
    """

    funnel: str
    window: int
    fields: list[str]
    totals: bytes


def _parts(totals: WindowCounts, oldest: int) -> Iterator[_Part]:
    """The windows that are not older, each in parts of at most ``SERIES_AT_ONCE``."""
    funnels, places = totals.funnels()
    order = np.lexsort((places, totals.windows))
    order = order[totals.windows[order] >= oldest]
    if not order.size:
        return
    windows, of = totals.windows[order], places[order]
    begins = np.flatnonzero(np.diff(windows, prepend=windows[0] - 1) | np.diff(of, prepend=of[0])).tolist()
    values = totals.counts[order].astype(">i4")
    series = totals.series[order].tolist()
    for begin, end in pairwise([*begins, order.size]):
        for first in range(begin, end, SERIES_AT_ONCE):
            until = min(first + SERIES_AT_ONCE, end)
            fields = [field_name(totals.names[number]) for number in series[first:until]]
            yield _Part(funnels[of[begin]], int(windows[begin]), fields, values[first:until].tobytes())
