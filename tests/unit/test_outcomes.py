"""Outcomes of messages that were sent together, and what they say about the client."""

from __future__ import annotations

import threading

import pytest
from confluent_kafka import KafkaError

from funnelwatch.producers.kafka.acked import UNACKNOWLEDGED, Outcomes


def test_messages_count_as_unacknowledged_until_their_report_comes() -> None:
    """The order of the reports does not matter, and completion is reported once."""
    completions: list[int] = []
    outcomes = Outcomes(lambda: completions.append(1))
    first, second, third = (outcomes.expect() for _ in range(3))
    too_large = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
    third(None, None)
    first(too_large, None)
    outcomes.seal()
    assert (outcomes.errors(), completions) == ([too_large, UNACKNOWLEDGED, None], [])
    second(None, None)
    assert (outcomes.errors(), completions) == ([too_large, None, None], [1])


def test_no_message_and_reports_that_come_before_the_seal_complete_as_well() -> None:
    """A request without events waits for nothing."""
    completions: list[int] = []
    Outcomes(lambda: completions.append(1)).seal()
    outcomes = Outcomes(lambda: completions.append(2))
    outcomes.expect()(None, None)
    outcomes.seal()
    assert completions == [1, 2]


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (KafkaError(KafkaError.PRODUCER_FENCED), True),
        (KafkaError(KafkaError._FATAL, "an idempotent producer gave up", fatal=True), True),
        (KafkaError(KafkaError._MSG_TIMED_OUT), False),
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), False),
    ],
    ids=["fenced", "fatal", "timed out", "denied"],
)
def test_only_errors_that_every_later_message_would_get_break_the_client(error: KafkaError, broken: bool) -> None:
    """A client that is broken for good is made anew; after any other error it goes on."""
    outcomes = Outcomes()
    outcomes.expect()(error, None)
    assert outcomes.is_broken is broken


def test_reports_from_several_threads_complete_exactly_once() -> None:
    """The collector's reports come from librdkafka's thread while the event loop still sends."""
    completions: list[int] = []
    outcomes = Outcomes(lambda: completions.append(1))
    reports = [outcomes.expect() for _ in range(400)]
    threads = [
        threading.Thread(target=lambda part=part: [one(None, None) for one in part])  # type: ignore[misc]
        for part in (reports[:200], reports[200:])
    ]
    for thread in threads:
        thread.start()
    outcomes.seal()
    for thread in threads:
        thread.join()
    assert (outcomes.errors(), completions) == ([None] * 400, [1])
