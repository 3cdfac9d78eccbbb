"""Which rejected records were produced again."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from funnelwatch.sinks.timescale.database import Database, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from funnelwatch.sinks.timescale.database import Row

RecordPlace = tuple[str, int, int, int]
"""Topic, partition, offset and Kafka timestamp (ms) of a record."""


class ReplayStore:
    """Remembers replays; for one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def claim(self, places: Sequence[RecordPlace]) -> Iterator[set[RecordPlace]]:
        """The places among these that no replay has produced yet, to be produced within the block.

        They are remembered when the block ends well, and are forgotten when it raises or the process dies in it. Who
        claims the same places meanwhile waits, so that two commands at once do not both produce them.

        Raises:
            psycopg.Error: the database went away; whether the places are remembered is then unknown.
        """
        topics, partitions, offsets, times = zip(*places, strict=True) if places else ((), (), (), ())
        parameters = {
            "topic": list(topics),
            "partition": list(partitions),
            "record_offset": list(offsets),
            "record_ms": list(times),
        }
        with self._database.transaction() as cursor:
            yield {_place(row) for row in run(cursor, "claim_replays", parameters)}

    def replayed(self) -> set[RecordPlace]:
        """Every place that was replayed; none before the first replay."""
        try:
            return {_place(row) for row in self._database.query("replayed")}
        except psycopg.errors.UndefinedTable:
            return set()


def _place(row: Row) -> RecordPlace:
    return row["topic"], row["partition"], row["record_offset"], row["record_ms"]
