"""One sample that the database rejects does not keep the others from being counted."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest

from funnelwatch.schemas.settings import Settings
from funnelwatch.schemas.validation import Limits
from funnelwatch.sinks import retry
from funnelwatch.sinks.base import Flushed, MisplacedError
from funnelwatch.stream.aggregate.metric_aggregator import MetricAggregator
from funnelwatch.stream.aggregate.metric_validator import MetricValidator
from funnelwatch.stream.intake.batches import Record, RecordBatch, Records, Rejected
from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.polled_batch import PartitionAssignment, PolledBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from funnelwatch.schemas.metric_counts import MetricSeries, PartitionMetrics

T = 1_700_000_000_000
POISON = 13


class Store:
    """Counts in memory, rejects one value, and is overtaken by another worker when that value came alone.

    Args:
        overtaken: how far that one counts then; 0: there is none.
    """

    def __init__(self, overtaken: int) -> None:
        self.overtaken = overtaken
        self.progress = 0
        self.counted: list[int] = []
        self.failed = self.flushes = 0

    def admit(self, wanted: Iterable[MetricSeries], max_names: int, max_series: int) -> dict[MetricSeries, int]:
        """All may be."""
        return dict.fromkeys(wanted, 1)

    def flush(
        self, topic: str, topic_id: str, batches: Sequence[PartitionMetrics], *, rehearsal: bool = False
    ) -> Flushed:
        """As ``MetricStore.flush``."""
        self.flushes += 1
        assert self.flushes < 50, "it goes round in circles"
        (batch,) = batches
        place, totals = batch.place, [total for _, total in batch.samples.values()]
        if place.next_offset <= self.progress:
            return Flushed(skipped=[place.partition])
        if place.start_offset != self.progress:
            raise MisplacedError(place.partition, self.progress, place.start_offset)
        if any(total >= POISON for total in totals):
            self.failed += 1
            if self.failed == 2 and self.overtaken:  # of the batch, then of the sample alone
                self.progress = self.overtaken
            raise psycopg.errors.CheckViolation("poison is not wanted")
        if not rehearsal:
            self.counted += totals
            self.progress = place.next_offset
        return Flushed()


class Letters:
    """The dead letters."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def send(self, partition: int, rejected: Sequence[Rejected]) -> None:
        """Keep where they were."""
        self.sent += [one.record.offset for one in rejected]


@pytest.mark.parametrize(("overtaken", "letters"), [(0, [5]), (3, [5]), (5, [5]), (6, []), (8, [])])
def test_a_sample_that_another_worker_has_counted_meanwhile_is_no_dead_letter(
    monkeypatch: pytest.MonkeyPatch, overtaken: int, letters: list[int]
) -> None:
    """Its database did not reject it, so that a dead letter would be a sample that counts twice when it is replayed."""
    monkeypatch.setattr(retry, "DEFAULT_BACKOFF", retry.Backoff(0.001, 0.001))
    store, sent = Store(overtaken), Letters()

    def decode(value: bytes | None) -> dict[str, Any]:
        return {
            "event_id": str(value), "name": "sms", "kind": "COUNTER", "value": int(value or b""), "dimensions": {},
            "ts": T,
        }  # fmt: skip

    aggregator = MetricAggregator(
        settings=Settings(redis_url=""),
        fetcher=cast("Any", Fetcher()),
        validator=MetricValidator(decode, Limits(0, 10**12), 100),
        store=cast("Any", store),
        dead_letters=cast("Any", sent),
        stopping=threading.Event(),
        now_ms=lambda: T,
    )
    records = Records.of([Record(5, None, str(POISON).encode(), T)])
    aggregator.count(
        PolledBatch([(PartitionAssignment(0, "id", 8, 0, SeenIds(600_000)), RecordBatch(0, 0, 8, records))])
    )
    assert (sent.sent, store.progress) == (letters, 8)


class Fetcher:
    """Reads nothing."""

    def commit(self, next_offsets: dict[int, int]) -> None:
        """Done."""

    def rewind(self, assigned: PartitionAssignment) -> None:
        """Nothing is read anew here."""
        raise AssertionError


def test_a_batch_without_records_moves_the_progress_of_metrics() -> None:
    """Transaction markers end a partition, and no record has their offsets."""
    store, sent = Store(0), Letters()
    aggregator = MetricAggregator(
        settings=Settings(redis_url=""),
        fetcher=cast("Any", Fetcher()),
        validator=MetricValidator(lambda _: {}, Limits(0, 10**12), 100),
        store=cast("Any", store),
        dead_letters=cast("Any", sent),
        stopping=threading.Event(),
        now_ms=lambda: T,
    )
    aggregator.count(
        PolledBatch([(PartitionAssignment(0, "id", 8, 0, SeenIds(600_000)), RecordBatch(0, 0, 8, Records.of([])))])
    )
    assert (sent.sent, store.progress, store.counted) == ([], 8, [])
