"""The first station of the stream: validates polled batches and sends rejected records to the dead letters.

It waits for the schema registry and Kafka, and for the database only where names are new or rejected, so a slow flush
does not hold it up.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.sinks.failpoints import failpoint
from funnelwatch.sinks.retry import RetryPolicy
from funnelwatch.stream.intake.polled_batch import ValidatedPoll
from funnelwatch.stream.intake.validator import EventValidator, warm_up

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from funnelwatch.stream.intake.batches import ValidatedBatch
    from funnelwatch.stream.intake.dead_letters import DeadLetters
    from funnelwatch.stream.intake.polled_batch import PartitionAssignment, PolledBatch


class Validation:
    """Validates polled batches, one at a time, on one thread.

    Args:
        validator: decides about a record.
        dead_letters: where rejected records go.
        stopping: set when the worker stops.
        keep_alive: called now and then while it waits and fetches nothing, so that the consumer stays in its group.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        *,
        validator: EventValidator,
        dead_letters: DeadLetters,
        stopping: threading.Event,
        keep_alive: Callable[[], None],
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._validator = validator
        self._dead_letters = dead_letters
        self._wait_for = RetryPolicy(stopping, keep_alive)
        self._now_ms = now_ms

    def ask_kafka(self, timeout_s: float) -> None:
        """Return if Kafka answers the client of the dead letters. From any thread.

        Raises:
            KafkaException: it does not.
        """
        self._dead_letters.ask_kafka(timeout_s)

    def __call__(self, polled: PolledBatch) -> ValidatedPoll:
        """Validate a polled batch, waiting out whatever outage there is; empties it.

        Raises:
            StoppedError: the worker stops first; the next worker of its partitions reads the batch again.
        """
        found: list[tuple[PartitionAssignment, ValidatedBatch]] = []
        self._wait_for("schema registry", partial(self._validate_into, found, polled, self._now_ms()))
        if found:
            failpoint("validated")
        for assigned, batch in found:
            if batch.rejected:
                send = partial(self._dead_letters.send, assigned.partition, batch.rejected)
                self._wait_for("Kafka: dead letters", send)
                batch.rejected = [one.without_bytes() for one in batch.rejected]
                failpoint("dead_letters_sent")
        return ValidatedPoll(found, polled.at_end, polled.newly_assigned, polled.is_full, polled.taken_s)

    def _validate_into(
        self, found: list[tuple[PartitionAssignment, ValidatedBatch]], polled: PolledBatch, now_ms: int
    ) -> None:
        """Validate batch by batch, so that an outage in the middle repeats no batch."""
        # A batch is removed once it is validated: its ids are remembered from then on, so a second try would take its
        # events for duplicates of themselves.
        while polled.warm_up:
            assigned, batch = polled.warm_up[0]
            warm_up(self._validator, batch, assigned.seen, now_ms, assigned.sessions)
            del polled.warm_up[0]
        while polled.batches:
            assigned, batch = polled.batches[0]
            found.append((assigned, self._validator(batch, assigned.seen, now_ms, assigned.sessions)))
            del polled.batches[0]
