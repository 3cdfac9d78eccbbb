"""FunnelProducer while Kafka is away: it never blocks unless told to, and says what it lost."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError

from funnelwatch import BufferFull, FunnelProducer, Undelivered
from funnelwatch.schemas.settings import Settings
from tests.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOWN: dict[str, Any] = {"sign_up_session_id": "s-1", "step": "A", "phase": "IMPRESSION"}
BUFFER = 5


@pytest.fixture
def away() -> Iterator[Settings]:
    """A Kafka that takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield Settings(kafka_bootstrap_servers=f"127.0.0.1:{silent.getsockname()[1]}")


def test_a_full_buffer_drops_counts_and_reports(away: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Emitting returns at once, whatever Kafka does; every drop is reported, and the log says it once in a while."""
    lost: list[Undelivered] = []
    producer = FunnelProducer(away, buffer_events=BUFFER, on_error=lost.append)
    began = time.monotonic()
    taken = [producer.emit(SHOWN) for _ in range(100)]
    assert time.monotonic() - began < 30
    assert taken == [True] * BUFFER + [False] * (100 - BUFFER)
    stats = producer.stats()
    assert (stats.emitted, stats.dropped, stats.buffered) == (BUFFER, 100 - BUFFER, BUFFER)
    assert {(one.sign_up_session_id, one.reason) for one in lost} == {("s-1", "BUFFER_FULL")}
    assert caplog.text.count("did not reach Kafka") == 1

    producer.close(0.1)
    stats = producer.stats()
    assert (stats.failed, stats.buffered, len(lost)) == (BUFFER, 0, 100)


def test_a_full_buffer_raises_where_that_is_wanted(away: Settings) -> None:
    """The event is not counted as emitted."""
    producer = FunnelProducer(away, buffer_events=BUFFER, when_full="raise")
    assert all(producer.emit(SHOWN) for _ in range(BUFFER))
    with pytest.raises(BufferFull, match=f"{BUFFER} events wait for 127.0.0.1"):
        producer.emit(SHOWN)
    assert producer.stats().emitted == BUFFER
    producer.close(0.1)


def test_a_full_buffer_blocks_where_that_is_wanted_until_there_is_room(away: Settings) -> None:
    """Room comes here from events that fail, after the delivery timeout."""
    with FunnelProducer(away, buffer_events=BUFFER, when_full="block", delivery_timeout_s=5.0) as producer:
        emitter = threading.Thread(target=lambda: [producer.emit(SHOWN) for _ in range(BUFFER + 1)])
        emitter.start()
        wait_until(lambda: producer.stats().emitted == BUFFER + 1, "one event more than there is room for")
        assert emitter.is_alive()
        assert producer.stats().failed == 0
        emitter.join(90)
        assert not emitter.is_alive()
        assert producer.stats().failed >= 1
        wait_until(lambda: producer.stats().failed >= BUFFER, "all that had filled the buffer timed out")


def test_events_that_time_out_are_reported_by_the_background_thread(away: Settings) -> None:
    """Nobody has to poll."""
    lost: list[Undelivered] = []
    producer = FunnelProducer(away, delivery_timeout_s=0.5, on_error=lost.append)
    producer.emit(SHOWN)
    wait_until(lambda: lost, "the report")
    assert lost[0].reason == "_MSG_TIMED_OUT"
    wait_until(lambda: producer.stats().failed == 1, "it is counted")
    producer.close(0.1)


def test_an_error_in_on_error_does_no_harm(away: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the event counts as dropped all the same."""

    def fail(undelivered: Undelivered) -> None:
        raise KeyError(undelivered.reason)

    producer = FunnelProducer(away, buffer_events=1, on_error=fail)
    assert [producer.emit(SHOWN) for _ in range(3)] == [True, False, False]
    assert producer.stats().dropped == 2
    assert "on_error of the producer failed" in caplog.text
    producer.close(0.1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"step": ""}, "step: is missing or empty"),
        ({"phase": "SHOWN"}, "phase: 'SHOWN' is not one of"),
        ({"status": "SUCCESS"}, "status: 'SUCCESS' of an IMPRESSION"),
        ({"ts": "today"}, "ts: 'today' is not a whole number"),
        ({"contexts": {"a": 1}}, r"contexts\.a: 1 is not a string"),
        ({"country": 49}, r"country: 49 is not a text, as dimensions are; right would be '49'"),
        ({"beta": True}, "beta: True is not a text"),
        ({"Country": "DE"}, "Country: is not the name of a dimension; right would be up to 63 of a-z, 0-9 and _"),
        ({"country": "DE", "contexts": {"country": "FR"}}, "country: is 'DE', and 'FR' in contexts"),
        ({"contexts": {"a": "x" * 2_000_000}}, "contexts: the event is too large"),
    ],
)
def test_an_invalid_field_is_the_callers_at_once(away: Settings, fields: dict[str, Any], message: str) -> None:
    """The message names the field, and nothing counts as emitted."""
    with FunnelProducer(away) as producer:
        with pytest.raises(ValueError, match=f"^{message}"):
            producer.emit(SHOWN, **fields)
        assert producer.stats().emitted == 0


def test_a_policy_that_is_none_is_rejected() -> None:
    """The message lists those that there are."""
    with pytest.raises(ValueError, match="when_full: 'wait' is not one of drop, block, raise"):
        FunnelProducer(Settings(), when_full="wait")  # type: ignore[arg-type]


def test_a_closed_producer_takes_nothing(away: Settings) -> None:
    """And may be closed again."""
    producer = FunnelProducer(away)
    producer.close()
    producer.close()
    with pytest.raises(RuntimeError, match="closed"):
        producer.emit(SHOWN)


def test_counters_and_timers_share_the_buffer_and_name_their_series_when_lost(away: Settings) -> None:
    """What is wrong raises at once, and does not take room."""
    lost: list[Undelivered] = []
    producer = FunnelProducer(away, buffer_events=2, on_error=lost.append)
    assert producer.counter("sms_sent", os="iOS")
    assert producer.timer("sms_delivery", 850.4, os="iOS")
    assert not producer.counter("sms_sent", 3, os="iOS")
    assert [one.sign_up_session_id for one in lost] == ['sms_sent{os="iOS"}']
    with pytest.raises(ValueError, match="value: -1 is not between"):
        producer.counter("sms_sent", -1)
    with pytest.raises(ValueError, match="name: 'sms sent' is not a name"):
        producer.timer("sms sent", 1)
    with pytest.raises(ValueError, match="unit"):
        producer.record(name="sms_sent", kind="COUNTER", unit="s")  # type: ignore[call-overload]
    assert producer.stats().emitted == 2
    producer.close(0.1)


@pytest.mark.parametrize("code", [KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH])
def test_a_client_that_kafka_calls_fenced_is_made_anew(away: Settings, code: int) -> None:
    """Every later event would fail as well; one that is merely late changes nothing."""
    with FunnelProducer(away) as producer:
        producer.emit(SHOWN)
        first = producer._connection
        assert first is not None

        class Message:
            def key(self) -> bytes:
                return b"s-1"

        first._reported(KafkaError(KafkaError._MSG_TIMED_OUT), Message())
        producer.emit(SHOWN)
        assert producer._connection is first
        first._reported(KafkaError(code), Message())
        producer.emit(SHOWN)
        assert producer._connection is not first
        producer.close(0.1)
