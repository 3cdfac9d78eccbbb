"""What the intake does with a fetch, and while it has to wait."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.schemas.codec import Reason, RegistryUnavailable, Undecodable
from funnelwatch.schemas.validation import Limits
from funnelwatch.sinks.retry import StoppedError
from funnelwatch.stream.aggregate.aggregation import aggregate
from funnelwatch.stream.intake.batches import Record, RecordBatch, Records
from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.polled_batch import PartitionAssignment, PolledBatch
from funnelwatch.stream.intake.validation import Validation
from funnelwatch.stream.intake.validator import EventValidator

if TYPE_CHECKING:
    from collections.abc import Callable


def validation(
    decode: Callable[[bytes | None], dict[str, Any]], kept: list[str], stopping: threading.Event
) -> Validation:
    """With a list that says how often the group was served."""
    return Validation(
        validator=EventValidator(decode, {}, Limits(300_000, 10**11), 10**6),
        dead_letters=Letters(),  # type: ignore[arg-type]
        stopping=stopping,
        keep_alive=lambda: kept.append("kept"),
        now_ms=lambda: 0,
    )


class Letters:
    """Dead letters that Kafka takes at once."""

    def send(self, partition: int, rejected: list[Any]) -> None:
        """Taken."""


def fetch() -> PolledBatch:
    """Of one record."""
    records = Records.of([Record(7, b"key", b"value", 1)])
    return PolledBatch([(PartitionAssignment(0, "id", 7, 7, SeenIds(600_000)), RecordBatch(0, 7, 8, records))])


def test_the_group_is_served_while_the_registry_is_away() -> None:
    """After each try; then all is validated, and of what was rejected only the place and the reason are kept."""
    kept: list[str] = []

    def decode(value: bytes | None) -> dict[str, Any]:
        if len(kept) < 3:
            raise RegistryUnavailable("away")
        raise Undecodable(Reason.INVALID_AVRO, "x" * 10_000)

    ((_, batch),) = validation(decode, kept, threading.Event())(fetch()).batches
    assert kept == ["kept"] * 3
    (rejected,) = batch.rejected
    assert (rejected.record, rejected.reason, rejected.detail) == (Record(7, None, None, 1), Reason.INVALID_AVRO, "")


def test_a_worker_that_stops_does_not_wait() -> None:
    """What was fetched is read again by whoever comes next."""
    stopping = threading.Event()
    stopping.set()

    def decode(value: bytes | None) -> dict[str, Any]:
        raise RegistryUnavailable("away")

    with pytest.raises(StoppedError):
        validation(decode, [], stopping)(fetch())


def test_a_batch_without_records_moves_the_progress_all_the_same() -> None:
    """Transaction markers end a partition, and no record has their offsets."""
    assigned = PartitionAssignment(0, "id", 9, 7, SeenIds(600_000))
    nothing = PolledBatch([(assigned, RecordBatch(0, 7, 9, Records.of([])))])

    def decode(value: bytes | None) -> dict[str, Any]:
        raise AssertionError("there is nothing to decode")

    ((_, batch),) = validation(decode, [], threading.Event())(nothing).batches
    counts = aggregate(batch, 60_000, 0, 0)
    assert (counts.start_offset, counts.next_offset) == (7, 9)
    assert (counts.accepted, counts.rejected, counts.duplicates, len(counts.counts)) == (0, 0, 0, 0)
    assert (counts.watermark, counts.log_time) == (None, None)
