"""The first station of the stream: validates polled batches and sends rejected records to the dead letters.

It waits for the schema registry and Kafka, and for the database only where names are new or rejected, so a slow flush
does not hold it up.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.sinks.failpoints import point
from funnelwatch.sinks.retry import RetryPolicy
from funnelwatch.stream.intake.polled_batch import ValidatedPoll
from funnelwatch.stream.intake.validator import EventValidator, ValidatedBatch, warm_up

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from funnelwatch.stream.intake.dead_letters import DeadLetters
    from funnelwatch.stream.intake.polled_batch import PartitionAssignment, PolledBatch


class Validation:
    """Judges fetches, one at a time, on one thread.

    Args:
        judge: decides about a record.
        dead_letters: where rejected records go.
        stopping: set when the worker stops.
        keep_alive: called now and then while it waits: nothing is fetched then, and the group must not think us dead.
        now_ms: the wall clock.
    """

    def __init__(
        self,
        *,
        judge: EventValidator,
        dead_letters: DeadLetters,
        stopping: threading.Event,
        keep_alive: Callable[[], None],
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._judge = judge
        self._dead_letters = dead_letters
        self._wait_for = RetryPolicy(stopping, keep_alive)
        self._now_ms = now_ms

    def ask_kafka(self, timeout_s: float) -> None:
        """Return if Kafka answers the client of the dead letters. From any thread.

        Raises:
            KafkaException: it does not.
        """
        self._dead_letters.ask_kafka(timeout_s)

    def __call__(self, fetch: PolledBatch) -> ValidatedPoll:
        """Validate a polled batch, waiting out whatever outage there is; empties it.

        Raises:
            StoppedError: the worker stops first; the fetch is then read again by whoever is assigned its partitions.
        """
        verdicts: list[tuple[PartitionAssignment, ValidatedBatch]] = []
        self._wait_for("schema registry", partial(self._judge_into, verdicts, fetch, self._now_ms()))
        if verdicts:
            point("judged")
        for assigned, verdict in verdicts:
            if verdict.rejected:
                send = partial(self._dead_letters.send, assigned.partition, verdict.rejected)
                self._wait_for("Kafka: dead letters", send)
                verdict.rejected = [one.without_bytes() for one in verdict.rejected]
                point("dead_letters_sent")
        return ValidatedPoll(verdicts, fetch.at_end, fetch.newly_assigned, fetch.is_full, fetch.taken_s)

    def _judge_into(
        self, verdicts: list[tuple[PartitionAssignment, ValidatedBatch]], fetch: PolledBatch, now_ms: int
    ) -> None:
        """Validate batch by batch, so that an outage in the middle repeats no batch."""
        while fetch.warm_up:
            assigned, batch = fetch.warm_up[0]
            warm_up(self._judge, batch, assigned.seen, now_ms)
            del fetch.warm_up[0]
        while fetch.batches:
            assigned, batch = fetch.batches[0]
            verdicts.append((assigned, self._judge(batch, assigned.seen, now_ms)))
            del fetch.batches[0]
