"""The hot copy: the totals of recent windows, for readers that want them at once.

It is a copy. After a flush is committed, the totals that the database returned are written here with a max-guard:
counts only grow, so a replay or a slower worker cannot lower them. Redis being away stops nothing: what could not be
written is owed, and since what is owed may be more than memory should hold, the debt is settled by copying the hot
windows from the database again (``rebuild``). The same happens when Redis has lost its data, which the missing epoch
tells.

Only a repair lowers counts (``repair``). Totals that a writer, perhaps a frozen one, has from before it must not raise
them again: each writer says how many repairs it knows of, and one that knows too few has to rebuild first.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import redis

from schemas.redaction import revealed
from sinks.redis.keys import (
    TALLY_FIELDS,
    counts_key,
    counts_pattern,
    epoch_key,
    field_names,
    parse_field,
    repairs_key,
)
from stream.model import Counts, Series, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydantic import SecretStr

    Read = Callable[[int, int, str], Iterable[tuple[int, Series, Tally]]]

RAISE_COUNTS = (files(__package__) / "raise_counts.lua").read_text()

FIELDS_AT_ONCE = 5_000
"""At most about this many counts in one call, so that other clients of the server are not kept waiting."""

Outage = (redis.RedisError, OSError)
"""Redis is away, full, read-only, or refuses: whatever it is, counting goes on without it and the copy is owed."""


class IncompleteError(Exception):
    """The copy in Redis is not whole, or was repaired; it has to be rebuilt before anything is added."""


class HotCopy:
    """Totals of the windows younger than the hot horizon; ``expire_s`` after a window's start its key goes."""

    def __init__(self, url: str | SecretStr, prefix: str, hot_horizon_s: float) -> None:
        self._client = redis.Redis.from_url(revealed(url), socket_timeout=5, socket_connect_timeout=2)
        self._prefix = prefix
        self._horizon_ms = int(hot_horizon_s * 1000)
        self._repairs = ""
        self._raise = self._client.register_script(RAISE_COUNTS)

    def oldest(self, now_ms: int) -> int:
        """Windows that start before this are not hot, ms."""
        return now_ms - self._horizon_ms

    def write(self, totals: Counts, now_ms: int) -> None:
        """Raise the counts of hot windows to these totals.

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
                self._call(windows, oldest)
                windows, held = {}, 0
        if windows:
            self._call(windows, oldest)

    def _call(self, windows: Mapping[tuple[str, int], list[str | int]], oldest: int) -> None:
        keys = [epoch_key(self._prefix), repairs_key(self._prefix)]
        arguments: list[str | int] = [self._repairs]
        for (funnel, start), pairs in windows.items():
            keys.append(counts_key(self._prefix, funnel, start))
            arguments += (max(1, (start - oldest) // 1000), len(pairs) // 2, *pairs)
        if not self._raise(keys=keys, args=arguments):
            raise IncompleteError

    def rebuild(self, rows: Iterable[tuple[int, Series, Tally]], now_ms: int) -> int:
        """Copy hot windows from the database; what is there stays until it is raised, so readers see no gap.

        The epoch is set before anything is read here by the caller's lazy ``rows``, so that counts which are flushed
        meanwhile are written by their own flush.

        Returns:
            How many series of windows were copied.
        """
        self._client.set(epoch_key(self._prefix), now_ms)
        self._repairs = _text(self._client.get(repairs_key(self._prefix)))
        copied = 0
        part: Counts = {}
        for window, series, tally in rows:
            part[window, *series] = list(tally)
            copied += 1
            if len(part) >= FIELDS_AT_ONCE // len(TALLY_FIELDS):
                self.write(part, now_ms)
                part = {}
        if part:
            self.write(part, now_ms)
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
            How many windows were hot; none where the copy is not whole, since whoever makes it whole reads it anew.

        Raises:
            redis.RedisError: an outage; to be repeated.
        """
        if not self.is_whole():
            return 0
        hot = [(funnel, start) for funnel, start in windows if start >= self.oldest(now_ms)]
        self._repairs = str(self._client.incr(repairs_key(self._prefix)))
        for funnel, start in hot:
            self._set(funnel, start, _totals(read(start, start + 1, funnel)), now_ms)
            self.write(_totals(read(start, start + 1, funnel)), now_ms)
        return len(hot)

    def _set(self, funnel: str, start: int, totals: Counts, now_ms: int) -> None:
        name = counts_key(self._prefix, funnel, start)
        right = {
            field: count
            for key, tally in totals.items()
            for field, count in zip(field_names(key[2:]), tally, strict=True)
            if count
        }
        wrong = [field for field in self._client.hkeys(name) if _text(field) not in right]
        pairs = list(right.items())
        # A window of ordinary size changes at once.
        for at in range(0, max(len(pairs), len(wrong), 1), FIELDS_AT_ONCE):
            with self._client.pipeline() as pipeline:
                if wrong[at : at + FIELDS_AT_ONCE]:
                    pipeline.hdel(name, *wrong[at : at + FIELDS_AT_ONCE])
                if pairs[at : at + FIELDS_AT_ONCE]:
                    pipeline.hset(name, mapping=dict(pairs[at : at + FIELDS_AT_ONCE]))
                pipeline.expire(name, max(1, (start - self.oldest(now_ms)) // 1000))
                pipeline.execute()

    def clear(self) -> None:
        """Remove the whole copy, the epoch first, so that no writer adds to what is going."""
        self._client.delete(epoch_key(self._prefix))
        for key in self._client.scan_iter(counts_pattern(self._prefix), count=1000):
            self._client.delete(key)

    def is_whole(self) -> bool:
        """Whether the copy has been built since Redis was last empty."""
        return bool(self._client.exists(epoch_key(self._prefix)))

    def read(self, funnel: str, window_ms: int) -> dict[Series, Tally]:
        """The tallies of one window; empty where it is not hot or has no counts."""
        return _tallies(funnel, self._client.hgetall(counts_key(self._prefix, funnel, window_ms)))

    def read_many(self, funnel: str, windows: list[int]) -> dict[int, dict[Series, Tally]]:
        """The tallies of several windows, in one round trip."""
        pipeline = self._client.pipeline(transaction=False)
        for window in windows:
            pipeline.hgetall(counts_key(self._prefix, funnel, window))
        return {window: _tallies(funnel, fields) for window, fields in zip(windows, pipeline.execute(), strict=True)}

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()


def _totals(rows: Iterable[tuple[int, Series, Tally]]) -> Counts:
    return {(window, *series): list(tally) for window, series, tally in rows}


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def _tallies(funnel: str, fields: Mapping[bytes | str, bytes | str]) -> dict[Series, Tally]:
    counts: dict[Series, dict[str, int]] = {}
    for field, count in fields.items():
        series, name = parse_field(funnel, _text(field))
        counts.setdefault(series, {})[name] = int(count)
    return {series: Tally(**named) for series, named in counts.items()}
