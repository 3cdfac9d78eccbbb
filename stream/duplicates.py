"""Duplicates: the same ``event_id`` twice within the horizon is counted once.

The horizon is measured in Kafka's own timestamps of the partition's records, not in wall time, so that reading the
log again finds the same duplicates. An event and its repetition have the same session and so the same partition;
hence each partition remembers for itself, and what it remembers is rebuilt by reading the horizon before the place
where counting goes on. An event is a duplicate if the same id stands anywhere in the horizon before it, as a duplicate
or not: so reading one horizon is enough to judge as whoever read the log from its beginning.
"""

from __future__ import annotations


class SeenIds:
    """The event ids of one partition, each with the Kafka timestamp (ms) of its latest record.

    Ids are kept in two generations: when the younger spans a horizon it becomes the elder and the former elder is
    forgotten whole, which costs nothing an event. So an id is remembered for one to two horizons, but only within one
    is it a duplicate. ``limit`` bounds a generation; a generation that is full is ended early, and then the horizon
    is shorter than asked for (``shortened`` counts how often).

    Ids are held as their 64-bit hash: among a million ids the chance that a fresh one is taken for a duplicate is
    5e-14.
    """

    def __init__(self, horizon_ms: int, limit: int = 1_000_000) -> None:
        self.horizon_ms = horizon_ms
        self.shortened = 0
        self._limit = limit
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._young_since: int | None = None

    def is_new(self, event_id: str, log_time: int) -> bool:
        """Remember an id; False if it is a duplicate of one within the horizon before ``log_time``."""
        if not self.horizon_ms:
            return True
        if self._young_since is None:
            self._young_since = log_time
        full = len(self._young) >= self._limit
        if full or log_time - self._young_since > self.horizon_ms:
            self.shortened += full
            self._old, self._young, self._young_since = self._young, {}, log_time
        digest = hash(event_id)
        last = self._young.get(digest)
        if last is None:
            last = self._old.get(digest)
        if last is None:
            self._young[digest] = log_time
            return True
        self._young[digest] = max(last, log_time)
        return log_time - last > self.horizon_ms

    def __len__(self) -> int:
        """How many ids are remembered."""
        return len(self._young) + len(self._old)
