"""The cache: the totals of recent windows, for readers that want them at once.

It is a cache. After a flush is committed, the totals that the database returned are written here with a max-guard:
counts only grow, so a replay or a slower worker cannot lower them. Redis being away stops nothing: a worker remembers
what it could not write, and copies those windows from the database later (``stream.aggregate.cache_rebuild``).

Each write moves the mark of its partitions on: "the counts up to this offset are here". A worker that takes a
partition over compares the mark with the database's progress, and copies nothing where they agree. A Redis that lost
its data has no epoch; one that was restored from an older state has marks that are behind.

Readers ask ``is_whole``: while a copy is under way they read the database.

Only a repair lowers counts (``repair``). Totals that a writer, perhaps a frozen one, has from before it must not raise
them again: each writer says how many repairs it knows of, and one that knows too few is rejected.
"""

from __future__ import annotations

import uuid
from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import redis

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.counts import CountRow, Counts, Series
from funnelwatch.sinks.redis.client import connect
from funnelwatch.sinks.redis.keys import (
    TALLY_FIELDS,
    Mark,
    copied_key,
    copies_key,
    counts_key,
    counts_pattern,
    epoch_key,
    field_names,
    parse_field,
    probe_key,
    repairs_key,
    whole_key,
)
from funnelwatch.sinks.redis.state import NOTHING_YET_MS, CacheState, IncompleteError, MoveMark, RepairedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pydantic import SecretStr

    from funnelwatch.sinks.redis.client import Client

    Read = Callable[[int, int, str], Iterable[tuple[int, Series, CountRow]]]

RAISE_COUNTS = (files(__package__) / "raise_counts.lua").read_text()
PROBE = (files(__package__) / "probe.lua").read_text()
SET_MARKS = (files(__package__) / "set_marks.lua").read_text()

FIELDS_AT_ONCE = 5_000
"""At most about this many counts in one call, so that other clients of the server are not kept waiting."""

Outage = (redis.RedisError, OSError)
"""Redis is away, full, read-only, or rejects: whatever it is, counting goes on without it and the copy is owed."""

LOST, REPAIRED, CONTINUED, GAP = 0, -1, 1, 2
"""What the script of a write answers."""


class CountCache:
    """Totals of the windows younger than the recent horizon; ``expire_s`` after a window's start its key goes.

    For one thread, which may differ from call to call. The first use connects.

    Args:
        url: see ``funnelwatch.sinks.redis.client``.
        prefix: first part of every key.
        cache_horizon_s: see the settings.
        topic: the events topic, whose marks are kept; without one no marks are read.
    """

    def __init__(self, url: str | SecretStr, prefix: str, cache_horizon_s: float, topic: str = "") -> None:
        self._url = url
        self._prefix = prefix
        self._topic = topic
        self._horizon_ms = int(cache_horizon_s * 1000)
        self._repairs = ""

    @cached_property
    def client(self) -> Client:
        """The connection, made at the first use.

        Raises:
            redis.RedisError, OSError: nobody answers there, or the URL cannot be read.
        """
        return connect(self._url)

    @cached_property
    def _raise(self) -> Any:
        return self.client.register_script(RAISE_COUNTS)

    @cached_property
    def _set_marks(self) -> Any:
        return self.client.register_script(SET_MARKS)

    def probe(self) -> None:
        """Try whether counts can be written, by something that goes after a second.

        Raises:
            redis.RedisError, OSError: they cannot.
        """
        self.client.register_script(PROBE)(keys=[probe_key(self._prefix)])

    def oldest(self, now_ms: int) -> int:
        """Windows that start before this are not cache, ms."""
        return now_ms - self._horizon_ms

    def write(self, totals: Counts, now_ms: int, marks: Sequence[MoveMark] = (), epoch: str = "") -> bool:
        """Raise the counts of recent windows to these totals, then move marks on.

        Args:
            totals: by key.
            now_ms: the wall clock.
            marks: of the partitions that were flushed.
            epoch: write to no other life of the data; empty: to any.

        Returns:
            Whether the marks stood where they could; False if the cache lacks something that the writer did not know.

        Raises:
            IncompleteError: Redis has lost its data, or it was repaired; nothing was written.
            redis.RedisError: an outage; perhaps a part was written, which does no harm.
        """
        oldest = self.oldest(now_ms)
        windows: dict[tuple[str, int], list[str | int]] = {}
        held = 0
        for key, tally in totals.items():
            if key[0] < oldest:
                continue
            pairs = windows.setdefault((key[1], key[0]), [])
            for field, count in zip(field_names(key[2:]), tally, strict=True):
                if count:
                    pairs += (field, count)
                    held += 1
            if held >= FIELDS_AT_ONCE:
                self._call(windows, oldest, (), epoch)
                windows, held = {}, 0
        if windows or marks:
            return self._call(windows, oldest, marks, epoch)
        return True

    def _call(
        self, windows: Mapping[tuple[str, int], list[str | int]], oldest: int, marks: Sequence[MoveMark], epoch: str
    ) -> bool:
        prefix = self._prefix
        keys = [epoch_key(prefix), repairs_key(prefix), copies_key(prefix), copied_key(prefix, self._topic)]
        arguments: list[str | int] = [self._repairs, epoch, len(marks)]
        for mark in marks:
            arguments += (mark.partition, mark.topic_id, mark.least, mark.to, int(mark.owes))
        for (funnel, start), pairs in windows.items():
            keys.append(counts_key(self._prefix, funnel, start))
            arguments += (max(1, (start - oldest) // 1000), len(pairs) // 2, *pairs)
        answer = self._raise(keys=keys, args=arguments)
        if answer == LOST:
            raise IncompleteError("Redis has lost its data")
        if answer == REPAIRED:
            raise RepairedError("counts were repaired")
        return bool(answer == CONTINUED)

    def learn_repairs(self) -> None:
        """Know all repairs: totals that are read from the database after this may be written."""
        self._repairs = _text(self.client.get(repairs_key(self._prefix)))

    def state(self) -> CacheState:
        """What Redis says of its own completeness."""
        prefix = self._prefix
        with self.client.pipeline(transaction=False) as pipeline:
            for key in (epoch_key(prefix), copies_key(prefix), whole_key(prefix)):
                pipeline.get(key)
            pipeline.hgetall(copied_key(prefix, self._topic))
            epoch, copies, whole, marks = pipeline.execute()
        of, copied, from_ms = (_text(whole) or "- 0 0").split(" ")
        is_now = bool(epoch) and of == _text(epoch)
        return CacheState(
            _text(epoch),
            int(copies or 0),
            int(copied) if is_now else 0,
            int(from_ms) if is_now else NOTHING_YET_MS,
            {int(partition): Mark.parsed(_text(mark)) for partition, mark in marks.items()},
        )

    def begin_epoch(self) -> str:
        """Let counts be written to a Redis that has lost its data; the name of this life of the data."""
        self.client.set(epoch_key(self._prefix), uuid.uuid4().hex, nx=True)
        return _text(self.client.get(epoch_key(self._prefix)))

    def begin_copy(self, epoch: str) -> int:
        """Begin a copy of all recent windows, its number; readers do without Redis until it has their windows.

        What is flushed from now on must be written by its flush; what was flushed before must be read after this.
        """
        number = int(self.client.incr(copies_key(self._prefix)))
        self.tell_whole(epoch, number, NOTHING_YET_MS)
        return number

    def tell_whole(self, epoch: str, number: int, from_ms: int) -> None:
        """Tell readers that a copy has every window that starts from here on."""
        self.client.set(whole_key(self._prefix), f"{epoch} {number} {from_ms}")

    def set_marks(self, what: str, marks: Iterable[tuple[int, str, int]], epoch: str = "") -> None:
        """Set marks of partitions.

        Args:
            what: "settled", "begun" or "owing", see the script.
            marks: of each its partition, topic id and offset.
            epoch: of this life of the data only; empty: of any.

        Raises:
            IncompleteError: Redis has lost its data.
        """
        flat = [one for mark in marks for one in mark]
        prefix = self._prefix
        keys = [epoch_key(prefix), copies_key(prefix), copied_key(prefix, self._topic)]
        if flat and not self._set_marks(keys=keys, args=[epoch, what, *flat]):
            raise IncompleteError("Redis has lost its data")

    def rebuild(
        self,
        rows: Iterable[tuple[int, Series, CountRow]],
        now_ms: int,
        counted: Callable[[], Iterable[tuple[int, str, int]]] = tuple,
    ) -> int:
        """Copy all recent windows from the database at one go; what is there stays until it is raised.

        ``rows`` is read when the copy has begun, so that counts which are flushed meanwhile are written by their own
        flush.

        Args:
            rows: the rows of the recent windows, read lazily.
            now_ms: the wall clock.
            counted: asks the database for each partition's topic id and how far it is counted; asked before ``rows``.

        Returns:
            How many series of windows were copied.
        """
        epoch = self.begin_epoch()
        self.learn_repairs()
        number = self.begin_copy(epoch)
        places = list(counted())
        self.set_marks("begun", places, epoch)
        copied = 0
        part: Counts = {}
        for window, series, tally in rows:
            part[window, *series] = list(tally)
            copied += 1
            if len(part) >= FIELDS_AT_ONCE // len(TALLY_FIELDS):
                self.write(part, now_ms, epoch=epoch)
                part = {}
        if part:
            self.write(part, now_ms, epoch=epoch)
        self.set_marks("settled", places, epoch)
        self.tell_whole(epoch, number, self.oldest(now_ms))
        return copied

    def repair(self, windows: Iterable[tuple[str, int]], read: Read, now_ms: int) -> int:
        """Make windows equal to the database, whose counts have become smaller; readers see no gap.

        First all writers are shut out until they have rebuilt, so that no total of before comes after. Then each
        window is set to what the database has, and raised once more: between the two a writer may have added to it.

        Args:
            windows: funnel and start (ms) of each.
            read: the rows of a funnel's windows in ``[from_ms, to_ms)``, as the database has them now.
            now_ms: the wall clock.

        Returns:
            How many windows were cache; none where the copy is not whole, since whoever makes it whole reads it anew.

        Raises:
            redis.RedisError: an outage; to be repeated.
        """
        if not self.client.exists(epoch_key(self._prefix)):
            return 0
        recent = [(funnel, start) for funnel, start in windows if start >= self.oldest(now_ms)]
        self._repairs = str(self.client.incr(repairs_key(self._prefix)))
        for funnel, start in recent:
            self._set(funnel, start, _totals(read(start, start + 1, funnel)), now_ms)
            self.write(_totals(read(start, start + 1, funnel)), now_ms)
        return len(recent)

    def _set(self, funnel: str, start: int, totals: Counts, now_ms: int) -> None:
        name = counts_key(self._prefix, funnel, start)
        right = {
            field: count
            for key, tally in totals.items()
            for field, count in zip(field_names(key[2:]), tally, strict=True)
            if count
        }
        wrong = [field for field in self.client.hkeys(name) if _text(field) not in right]
        pairs = list(right.items())
        # A window of ordinary size changes at once.
        for at in range(0, max(len(pairs), len(wrong), 1), FIELDS_AT_ONCE):
            with self.client.pipeline() as pipeline:
                if wrong[at : at + FIELDS_AT_ONCE]:
                    pipeline.hdel(name, *wrong[at : at + FIELDS_AT_ONCE])
                if pairs[at : at + FIELDS_AT_ONCE]:
                    pipeline.hset(name, mapping=dict(pairs[at : at + FIELDS_AT_ONCE]))
                pipeline.expire(name, max(1, (start - self.oldest(now_ms)) // 1000))
                pipeline.execute()

    def clear(self) -> None:
        """Remove the whole copy, the epoch first, so that no writer adds to what is going."""
        prefix = self._prefix
        self.client.delete(epoch_key(prefix))
        self.client.delete(whole_key(prefix), copied_key(prefix, self._topic))
        for key in self.client.scan_iter(counts_pattern(self._prefix), count=1000):
            self.client.delete(key)

    def is_whole(self, from_ms: int | None = None) -> bool:
        """Whether every window that starts from here on, ms, is complete; by default every cache one.

        Not while a copy of them is under way, nor while a worker still owes what it could not write.
        """
        return self.state().is_whole(self.oldest(wall_clock_ms()) if from_ms is None else from_ms)

    def read(self, funnel: str, window_ms: int) -> dict[Series, CountRow]:
        """The tallies of one window; empty where it is not cache or has no counts."""
        return _tallies(funnel, self.client.hgetall(counts_key(self._prefix, funnel, window_ms)))

    def read_many(self, funnel: str, windows: list[int]) -> dict[int, dict[Series, CountRow]]:
        """The tallies of several windows, in one round trip."""
        pipeline = self.client.pipeline(transaction=False)
        for window in windows:
            pipeline.hgetall(counts_key(self._prefix, funnel, window))
        return {window: _tallies(funnel, fields) for window, fields in zip(windows, pipeline.execute(), strict=True)}

    def close(self) -> None:
        """Let the connections go; the next use makes new ones."""
        client = vars(self).pop("client", None)
        for name in ("_raise", "_set_marks"):
            vars(self).pop(name, None)
        if client is not None:
            client.close()


def _totals(rows: Iterable[tuple[int, Series, CountRow]]) -> Counts:
    return {(window, *series): list(tally) for window, series, tally in rows}


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def _tallies(funnel: str, fields: Mapping[bytes | str, bytes | str]) -> dict[Series, CountRow]:
    counts: dict[Series, dict[str, int]] = {}
    for field, count in fields.items():
        series, name = parse_field(funnel, _text(field))
        counts.setdefault(series, {})[name] = int(count)
    return {series: CountRow(**named) for series, named in counts.items()}
