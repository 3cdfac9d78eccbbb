"""The counts of record: each accepted event once, through crashes, rebalances and zombies.

One flush is one transaction. It locks the progress rows of its partitions, sees what of its batches is already
counted, adds the rest and moves the progress on. Whoever comes second with the same records, for whatever reason,
finds them counted. So a flush whose outcome is unknown is simply repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import psycopg

from funnelwatch.schemas.window_counts import WindowCounts
from funnelwatch.sinks.base import Flushed, MisplacedError, Progress, TopicRecreatedError
from funnelwatch.sinks.failpoints import failpoint
from funnelwatch.sinks.timescale.database import Database, Row, run
from funnelwatch.sinks.timescale.series import StoredIds, row_series
from funnelwatch.sinks.timescale.totals import add_totals
from funnelwatch.sinks.timescale.window_rows import add_counts, count_row, row_duration

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from psycopg import Cursor

    from funnelwatch.schemas.arrays import Ints
    from funnelwatch.schemas.counts import CountRow, Durations, PartitionCounts, Series

K = TypeVar("K")


class CountStore:
    """A ``CountSink`` over one connection to the database; for one thread at a time.

    Args:
        database: where the counts are.
        horizon_s: rejected records are kept for this long, by Kafka's timestamps, s.
    """

    def __init__(self, database: Database, horizon_s: float = 600.0) -> None:
        self._database = database
        self._horizon_s = horizon_s
        self._ids = StoredIds(database)

    def flush(
        self, topic: str, topic_id: str, batches: Sequence[PartitionCounts], *, rehearsal: bool = False
    ) -> Flushed:
        """See ``CountSink``; one flush is one transaction.

        Args:
            topic: the events topic.
            topic_id: Kafka's id of the topic.
            batches: what to add.
            rehearsal: roll back at the end, to find out whether the database would accept the batches.

        Raises:
            MisplacedError: a batch leaves a gap, or overlaps what is counted in part; nothing was written.
            TopicRecreatedError: the partition's progress belongs to another topic; nothing was written.
            psycopg.Error: nothing was written, or the outcome is unknown.
        """
        flushed = Flushed()
        numbered = {batch.partition: self._ids.numbered(batch.counts) for batch in batches}
        with self._database.transaction() as cursor:
            wanted = lock_batches(cursor, topic, topic_id, batches, flushed)
            counts = WindowCounts.joined([numbered[batch.partition] for batch in wanted if len(batch.counts)])
            if len(counts):
                flushed.late = self._mark_late(cursor, counts)
                flushed.totals = add_counts(cursor, counts)
                add_totals(cursor, counts)
            for batch in wanted:
                move_on(cursor, topic, batch, self._horizon_s)
            failpoint("uncommitted")
            if rehearsal:
                raise psycopg.Rollback
        return flushed

    def _mark_late(self, cursor: Cursor[Row], counts: WindowCounts) -> int:
        closing, materializing = hold_closer_off(cursor, counts)
        if materializing is not None:
            note_invalidated(cursor, np.unique(counts.windows[counts.windows < materializing]).tolist())
        # A verification that only completes an older cohort is not late: cohorts grow until they are mature.
        late = counts.by_window(counts.events, (counts.windows < closing) & (counts.events > 0))
        if late:
            mark_late(cursor, late)
        return sum(late.values())

    def rejected_offsets(self, topic: str, partition: int, from_offset: int) -> frozenset[int]:
        """The offsets from ``from_offset`` on that were rejected, within the horizon."""
        parameters = {"topic": topic, "partition": partition, "from_offset": from_offset}
        return frozenset(row["rejected_offset"] for row in self._database.query("read_rejected", parameters))

    def start(self, topic: str, topic_id: str, beginnings: dict[int, int]) -> dict[int, Progress]:
        """How far partitions are counted; one that was never counted starts at its beginning.

        Args:
            topic: the events topic.
            topic_id: Kafka's id of the topic, which tells it from an earlier one of the same name.
            beginnings: partition to the first offset that the log still has.

        Raises:
            TopicRecreatedError: the progress belongs to another topic of the same name.
            psycopg.OperationalError: an outage.
        """
        with self._database.transaction() as cursor:
            for partition, beginning in sorted(beginnings.items()):
                parameters = {
                    "topic": topic,
                    "topic_id": topic_id,
                    "partition": partition,
                    "next_offset": beginning,
                }
                run(cursor, "start_progress", parameters)
            rows = run(cursor, "read_progress", {"topic": topic, "partitions": list(beginnings)})
        for row in rows:
            if row["topic_id"] != topic_id:
                raise TopicRecreatedError(recreated(topic, row["partition"]))
        return {row["partition"]: Progress(row["next_offset"], row["log_time_ms"]) for row in rows}

    def recorded(self, topic: str, partitions: Sequence[int]) -> dict[int, tuple[str, int]]:
        """Topic id and next offset of partitions that were ever counted."""
        rows = self._database.query("read_progress", {"topic": topic, "partitions": list(partitions)})
        return {row["partition"]: (row["topic_id"], row["next_offset"]) for row in rows}

    def mark_idle(self, topic: str, partitions: Sequence[int]) -> None:
        """Let partitions that have nothing unread not hold the watermark back, for ``IDLE_VALID_S``."""
        self._database.query("mark_idle", {"topic": topic, "partitions": list(partitions)})

    def read(self, from_ms: int, to_ms: int, funnel: str | None = None) -> Iterator[tuple[int, Series, CountRow]]:
        """The tallies of windows that start in ``[from_ms, to_ms)``, of one funnel or all: oldest first by funnel."""
        rows = self._database.query("read_counts", {"funnel": funnel, "from_ms": from_ms, "to_ms": to_ms})
        return ((row["window_ms"], row_series(row), count_row(row)) for row in rows)

    def durations(self, from_ms: int, to_ms: int, funnel: str | None = None) -> Durations:
        """The histograms of windows that start in ``[from_ms, to_ms)``, of one funnel or all."""
        rows = self._database.query("read_durations", {"funnel": funnel, "from_ms": from_ms, "to_ms": to_ms})
        return dict(map(row_duration, rows))

    def dealt_with(self, topic: str) -> Row:
        """How many records of a topic were ``accepted``, ``rejected`` and ``duplicates``."""
        return self._database.query("dealt_with", {"topic": topic})[0]

    def counted(self) -> int:
        """The events in all windows, each counted once. Reads the whole table: for checks, not for dashboards."""
        counted: int = self._database.query("counted")[0]["counted"]
        return counted

    def totals(self, topic: str) -> Row:
        """``dealt_with`` and ``counted`` together."""
        return {**self.dealt_with(topic), "counted": self.counted()}


def lock_batches(
    cursor: Cursor[Row], topic: str, topic_id: str, batches: Sequence[PartitionCounts], flushed: Flushed
) -> list[PartitionCounts]:
    """Lock the progress of partitions and see which of their batches are still to be written; notes the others.

    Raises:
        MisplacedError, TopicRecreatedError: see ``CountStore.flush``.
    """
    partitions = [batch.partition for batch in batches]
    rows = run(cursor, "lock_progress", {"topic": topic, "partitions": partitions})
    progress = {row["partition"]: row for row in rows}
    wanted = []
    for batch in batches:
        row = progress.get(batch.partition)
        if row is None or row["topic_id"] != topic_id:
            raise TopicRecreatedError(recreated(topic, batch.partition))
        if batch.next_offset <= row["next_offset"]:
            flushed.skipped.append(batch.partition)
        elif batch.start_offset != row["next_offset"]:
            raise MisplacedError(batch.partition, row["next_offset"], batch.start_offset)
        else:
            wanted.append(batch)
    return wanted


def move_on(cursor: Cursor[Row], topic: str, batch: PartitionCounts, horizon_s: float) -> None:
    """Move a partition on behind a batch, and remember for ``horizon_s`` which of its records were rejected."""
    run(
        cursor,
        "move_progress",
        {
            "topic": topic,
            "partition": batch.partition,
            "next_offset": batch.next_offset,
            "log_time_ms": batch.log_time,
            "watermark_ms": batch.watermark,
            "accepted": batch.accepted,
            "rejected": batch.rejected,
            "undeclared": batch.undeclared,
            "duplicates": batch.duplicates,
        },
    )
    if batch.rejected_offsets:
        parameters = {
            "topic": topic,
            "partition": batch.partition,
            "log_time_ms": batch.log_time,
            "offsets": batch.rejected_offsets,
            "horizon_s": horizon_s,
        }
        run(cursor, "forget_rejected", parameters)
        youngest = batch.log_time if batch.rejected_log_time is None else batch.rejected_log_time
        run(cursor, "note_rejected", parameters | {"log_time_ms": youngest})


NEVER_MS = -(2**62)
"""Before every window."""


def hold_closer_off(cursor: Cursor[Row], counts: WindowCounts) -> tuple[Ints, int | None]:
    """Hold the closer off until the transaction ends, and note the newest window of each funnel.

    Returns:
        For each row the time up to which the windows of its funnel are closed, and the time up to which rollups are
        materialized; all in ms.
    """
    funnels, places = counts.funnels()
    run(cursor, "hold_closer_off")
    rows = run(cursor, "closing_funnels", {"funnels": sorted(funnels)})
    if len(rows) < len(funnels):
        run(cursor, "start_funnels", {"funnels": sorted(funnels)})
        rows = run(cursor, "closing_funnels", {"funnels": sorted(funnels)})
    newest = np.full(len(funnels), NEVER_MS)
    np.maximum.at(newest, places, counts.windows)
    run(cursor, "note_newest", {"funnel": funnels, "window_ms": newest.tolist()})
    closing = {row["funnel"]: row["closing_through_ms"] for row in rows}
    through = np.array([NEVER_MS if closing[one] is None else closing[one] for one in funnels], np.int64)
    return through[places], rows[0]["materializing_through_ms"]


def mark_late(cursor: Cursor[Row], late: Mapping[tuple[str, int], int]) -> None:
    """Note how many events have changed closed windows, by funnel and window, which are to be published again."""
    parameters = {
        "funnel": [funnel for funnel, _ in late],
        "window_ms": [window for _, window in late],
        "events": list(late.values()),
    }
    run(cursor, "mark_late", parameters)


def note_invalidated(cursor: Cursor[Row], windows: Collection[int]) -> None:
    """Rollups of these windows, ms, are to be materialized again; in the transaction that changes them.

    The closer must be held off (``hold_closer_off``), so that nobody materializes what this does not know of.
    """
    if windows:
        run(cursor, "note_invalidated", {"window_ms": list(windows)})


def merged(parts: Iterable[dict[K, list[int]]]) -> dict[K, list[int]]:
    """The sum of several counts, or of several histograms."""
    total: dict[K, list[int]] = {}
    for part in parts:
        for key, tally in part.items():
            kept = total.get(key)
            total[key] = tally if kept is None else [a + b for a, b in zip(kept, tally, strict=True)]
    return total


def recreated(topic: str, partition: int) -> str:
    """What to tell a person whose topic is not the one that was counted."""
    return (
        f"partition {partition} of {topic} is not the log that was counted so far: the topic was deleted and made "
        f"again, or its offsets begin anew. Its counts are kept. If this is meant, run 'funnelwatch rebuild progress "
        f"--topic {topic}' to count the new log from its beginning; the worker then goes on by itself"
    )
