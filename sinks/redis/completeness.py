"""How complete the cache is: its epoch, its copies, and the marks of its partitions.

A Redis that lost its data has no epoch; one that was restored from an older state has marks that are behind. Each write
moves the mark of its partitions on: "the counts up to this offset are here". A worker that takes a partition over
compares the mark with the database's progress, and copies nothing where they agree.
"""

from __future__ import annotations

import uuid
from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.sinks.redis.client import connect
from funnelwatch.sinks.redis.keys import Mark, copied_key, copies_key, epoch_key, probe_key, whole_key
from funnelwatch.sinks.redis.state import NOTHING_YET_MS, CacheState, IncompleteError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import SecretStr

    from funnelwatch.sinks.redis.client import Client

PROBE = (files(__package__) / "probe.lua").read_text()
SET_MARKS = (files(__package__) / "set_marks.lua").read_text()


class CacheCompleteness:
    """The connection to the cache, and what the cache records about its own completeness.

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

    @cached_property
    def client(self) -> Client:
        """The connection, made at the first use.

        Raises:
            redis.RedisError, OSError: no server answers there, or the URL cannot be read.
        """
        return connect(self._url)

    @cached_property
    def _set_marks(self) -> Any:
        return self.client.register_script(SET_MARKS)

    def probe(self) -> None:
        """Write a key that expires after a second, to find out whether counts can be written.

        Raises:
            redis.RedisError, OSError: they cannot.
        """
        self.client.register_script(PROBE)(keys=[probe_key(self._prefix)])

    def oldest(self, now_ms: int) -> int:
        """The cache has no windows that start before this, ms."""
        return now_ms - self._horizon_ms

    def state(self) -> CacheState:
        """What Redis records about its own completeness."""
        prefix = self._prefix
        with self.client.pipeline(transaction=False) as pipeline:
            for key in (epoch_key(prefix), copies_key(prefix), whole_key(prefix)):
                pipeline.get(key)
            pipeline.hgetall(copied_key(prefix, self._topic))
            epoch, copies, whole, marks = pipeline.execute()
        of, copied, from_ms = (as_text(whole) or "- 0 0").split(" ")
        is_now = bool(epoch) and of == as_text(epoch)
        return CacheState(
            as_text(epoch),
            int(copies or 0),
            int(copied) if is_now else 0,
            int(from_ms) if is_now else NOTHING_YET_MS,
            {int(partition): Mark.parsed(as_text(mark)) for partition, mark in marks.items()},
        )

    def begin_epoch(self) -> str:
        """Start an epoch where Redis has lost its data, so that counts can be written; returns the epoch."""
        self.client.set(epoch_key(self._prefix), uuid.uuid4().hex, nx=True)
        return as_text(self.client.get(epoch_key(self._prefix)))

    def begin_copy(self, epoch: str) -> int:
        """Begin a copy of all recent windows; returns its number. Readers use the database until it has their windows.

        Counts that are flushed from now on are written by their flush; earlier counts must be read after this call.
        """
        number = int(self.client.incr(copies_key(self._prefix)))
        self.tell_whole(epoch, number, NOTHING_YET_MS)
        return number

    def tell_whole(self, epoch: str, number: int, from_ms: int) -> None:
        """Record that a copy has every window that starts at or after ``from_ms``."""
        self.client.set(whole_key(self._prefix), f"{epoch} {number} {from_ms}")

    def set_marks(self, what: str, marks: Iterable[tuple[int, str, int]], epoch: str = "") -> None:
        """Set marks of partitions.

        Args:
            what: "settled", "begun" or "owing", see the script.
            marks: of each its partition, topic id and offset.
            epoch: of this epoch only; empty: of any.

        Raises:
            IncompleteError: Redis has lost its data.
        """
        flat = [one for mark in marks for one in mark]
        prefix = self._prefix
        keys = [epoch_key(prefix), copies_key(prefix), copied_key(prefix, self._topic)]
        if flat and not self._set_marks(keys=keys, args=[epoch, what, *flat]):
            raise IncompleteError("Redis has lost its data")

    def is_whole(self, from_ms: int | None = None) -> bool:
        """Whether every window that starts at or after ``from_ms`` is complete; by default every window of the cache.

        Not while a copy of them is under way, nor while a worker has windows left to copy.
        """
        return self.state().is_whole(self.oldest(wall_clock_ms()) if from_ms is None else from_ms)

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        client = vars(self).pop("client", None)
        for name in ("_raise", "_set_marks"):
            vars(self).pop(name, None)
        if client is not None:
            client.close()


def as_text(value: bytes | str | None) -> str:
    """A value of Redis as text; empty where there is none."""
    return value.decode() if isinstance(value, bytes) else value or ""
