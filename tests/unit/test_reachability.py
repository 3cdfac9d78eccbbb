"""Whether a broker answers, as librdkafka's statistics and errors say, and when an outage is logged."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from confluent_kafka import KafkaError

from funnelwatch.producers.client.reachability import LOG_EVERY_S, OUTAGE_AFTER_S, SILENT_S, Reachability

UP = {"state": "UP", "rx": 3, "rxidle": 1_000}
REFUSED = KafkaError(KafkaError._TRANSPORT, "Connection refused")
ALL_DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")


class Clock:
    """A clock that a test moves."""

    now = 1_000.0

    def __call__(self) -> float:
        """The time, s."""
        return self.now


def statistics(*brokers: dict[str, Any]) -> str:
    """As librdkafka gives them."""
    return json.dumps({"brokers": {str(number): broker for number, broker in enumerate(brokers)}})


@pytest.mark.parametrize(
    ("brokers", "answers"),
    [
        ([UP], True),
        ([{**UP, "state": "DOWN"}], False),
        ([{**UP, "state": "TRY_CONNECT"}], False),
        ([{**UP, "state": "APIVERSION_QUERY", "rx": 0, "rxidle": -1}], False),
        ([{**UP, "state": "AUTH_REQ"}], True),
        ([{**UP, "rxidle": int((SILENT_S + 1) * 1e6)}], False),
        ([{**UP, "state": "DOWN"}, UP], True),
        ([], False),
    ],
    ids=["up", "down", "connecting", "silent-port", "logging-in", "frozen", "one-of-two", "none"],
)
def test_a_broker_answers_that_is_connected_and_has_sent_something_lately(
    brokers: list[dict[str, Any]], answers: bool
) -> None:
    """Nothing else is worth waiting for."""
    reachability = Reachability("kafka:9092")
    assert not reachability.answers(SILENT_S)
    reachability.measured(statistics(*brokers))
    assert reachability.answers(SILENT_S) == answers


def test_a_broker_that_had_nothing_to_answer_is_not_silent_yet() -> None:
    """An app that was idle for a minute emits its last event, and exits."""
    reachability = Reachability("kafka:9092")
    reachability.measured(statistics({**UP, "rxidle": 60_000_000}))
    assert reachability.answers(SILENT_S - 1)
    assert not reachability.answers(SILENT_S)


def test_a_long_outage_is_logged_now_and_then_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """Once a minute instead of ten times a second; the reason is the first error, not that all brokers are down."""
    caplog.set_level(logging.INFO)
    clock = Clock()
    reachability = Reachability("kafka:9092", clock)
    logged = []
    for _ in range(int(LOG_EVERY_S + OUTAGE_AFTER_S + 1) * 10):
        reachability.failed(REFUSED)
        reachability.failed(ALL_DOWN)
        reachability.log_outage()
        clock.now += 0.1
    logged += [record.getMessage() for record in caplog.records]
    assert len(logged) == 2
    assert logged[0].startswith("Kafka at kafka:9092 is away for 5 s: ")
    assert "Connection refused" in logged[0]
    reachability.worked()
    assert caplog.records[-1].getMessage() == "Kafka at kafka:9092 takes events again"
    assert reachability.trouble == ""
    reachability.log_outage()
    assert len(caplog.records) == 3


def test_a_short_outage_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A broker that is restarted, or one of three."""
    caplog.set_level(logging.INFO)
    clock = Clock()
    reachability = Reachability("kafka:9092", clock)
    for _ in range(10):
        reachability.failed(REFUSED)
        clock.now += OUTAGE_AFTER_S - 1
        reachability.log_outage()
        reachability.worked()
    assert caplog.records == []
