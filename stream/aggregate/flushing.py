"""Flushes to the database that events and metrics share: flush until each batch is placed, rehearse without one event.

The database accepts a batch only where it begins at the partition's progress. During a rebalance two workers may hold
the same records, so a flush can find that another worker has counted the beginning of a batch, or all of it, or that
records before it are missing. These outcomes are ordinary, and no event is counted twice or lost.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from funnelwatch.sinks.base import MisplacedError
from funnelwatch.sinks.errors import ErrorClass, classify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from funnelwatch.sinks.base import Flushed
    from funnelwatch.sinks.retry import RetryPolicy
    from funnelwatch.stream.intake.polled_batch import PartitionAssignment

log = logging.getLogger(__name__)

Batch = TypeVar("Batch")
"""A validated batch of events or of metrics."""
Counts = TypeVar("Counts")
"""What such a batch adds to the counts."""


@dataclass(frozen=True, slots=True)
class Placed(Generic[Batch, Counts]):
    """A flush that the database has committed.

    Attributes:
        batches: each batch with what it has added, in the order of the flush.
        topic_id: Kafka's id of the topic.
        flushed: the answer of the database.
        seconds: the time of the flush that was committed, with retries.
    """

    batches: list[tuple[Batch, Counts]]
    topic_id: str
    flushed: Flushed
    seconds: float


def flush_until_placed(
    validated: Iterable[tuple[PartitionAssignment, Batch]],
    count: Callable[[Batch, int], Counts],
    flush: Callable[[str, list[Counts]], Flushed],
    rewind: Callable[[PartitionAssignment], None],
) -> Placed[Batch, Counts] | None:
    """Flush batches, at most one a partition, in one transaction; None where nothing was left to flush.

    Args:
        validated: batches, each with the assignment that it belongs to.
        count: what a batch adds to the counts from an offset on.
        flush: flushes with a topic id; raises ``MisplacedError`` where a batch does not begin at the progress.
        rewind: called with the assignment of a partition that must be read anew from its progress.
    """
    pending = {assigned.partition: (assigned, batch, count(batch, 0)) for assigned, batch in validated}
    while pending:
        # Batches of one poll have the same topic id; if they differ, the database rejects the flush, and the worker
        # starts anew.
        topic_id = next(iter(pending.values()))[0].topic_id
        started = time.perf_counter()
        try:
            flushed = flush(topic_id, [counts for _, _, counts in pending.values()])
        except MisplacedError as error:
            log.warning("%s", error)
            assigned, batch, _ = pending.pop(error.partition)
            if error.is_gap:
                # What is missing before the batch only Kafka has. The other partitions do not wait for it.
                rewind(assigned)
            else:
                # Another worker has counted the beginning: the rest is counted from the offset that it got to.
                pending[error.partition] = (assigned, batch, count(batch, error.expected))
            continue
        placed = [(batch, counts) for _, batch, counts in pending.values()]
        return Placed(placed, topic_id, flushed, time.perf_counter() - started)
    return None


def is_to_blame(
    wait_for: RetryPolicy,
    what: str,
    offsets: tuple[int, int, int],
    rehearse: Callable[[int], Flushed],
) -> bool:
    """Whether the database accepts a batch without its one event, which failed; waits until it does.

    False where it had to wait: then the event may be accepted by now as well. False also where another worker has
    counted the event meanwhile, or the partition is to be read anew, as the next flush finds.

    Args:
        wait_for: waits out outages.
        what: the name of the flush in the log.
        offsets: partition, first offset of the batch, offset of the event.
        rehearse: flushes the batch without the event from an offset on, and rolls back.
    """
    partition, start, offset = offsets
    tries = 0

    def accepted() -> bool:
        nonlocal tries
        tries += 1
        begin = start
        while True:
            try:
                flushed = rehearse(begin)
            except MisplacedError as error:
                if error.is_gap or error.expected > offset:
                    return False
                begin = error.expected
            else:
                return partition not in flushed.skipped

    # Every error but a bug is waited out here, limits included: without the event the batch has nothing to reject.
    is_uncounted = wait_for(what, accepted, is_retried=lambda error: classify(error) is not ErrorClass.BUG)
    return is_uncounted and tries == 1
