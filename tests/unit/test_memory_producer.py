"""MemoryProducer: the same calls and errors as FunnelProducer's, with what Kafka would get in lists."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch import FunnelEvent, FunnelProducer, Metric, Phase, Status, track_impression, track_verification
from funnelwatch.schemas.settings import Settings
from funnelwatch.testing import AsyncMemoryProducer, MemoryProducer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.producers.client.emitter import Emitter

SHOWN: dict[str, Any] = {"sign_up_session_id": "s-1", "step": "A", "phase": "IMPRESSION", "ts": 1, "event_id": "e-1"}

INVALID = {
    "empty-step": {"step": ""},
    "no-phase": {"phase": "SHOWN"},
    "status-of-an-impression": {"status": "SUCCESS"},
    "no-status": {"phase": "POST_VERIFICATION"},
    "negative-duration": {"phase": "POST_VERIFICATION", "status": "SUCCESS", "duration_ms": -1},
    "ts-a-text": {"ts": "today"},
    "ts-a-fraction": {"ts": 1.5},
    "session-a-number": {"sign_up_session_id": 7},
    "contexts-a-number": {"contexts": {"a": 1}},
    "dimension-a-number": {"country": 49},
    "dimension-in-capitals": {"Country": "DE"},
    "too-large": {"contexts": {"a": "x" * 2_000_000}},
    "lone-surrogate": {"os": "\ud800"},
}


@pytest.fixture
def real() -> Iterator[FunnelProducer]:
    """A real producer whose Kafka is away."""
    producer = FunnelProducer(Settings(kafka_bootstrap_servers="127.0.0.1:9"), app_version="5.2.0")
    yield producer
    producer.close(0.0)


def raised_by(producer: Emitter, fields: dict[str, Any]) -> tuple[type[BaseException], str]:
    """The error that an event raises."""
    with pytest.raises(Exception, match=r".") as caught:
        producer.emit(SHOWN, **fields)
    return caught.type, str(caught.value)


@pytest.mark.parametrize("fields", INVALID.values(), ids=INVALID)
def test_an_invalid_event_raises_the_real_producers_error(real: FunnelProducer, fields: dict[str, Any]) -> None:
    """Type and message are equal, and nothing is kept."""
    memory = MemoryProducer(app_version="5.2.0")
    assert raised_by(memory, fields) == raised_by(real, fields)
    assert memory.events == []
    assert memory.stats().emitted == real.stats().emitted == 0


@pytest.mark.parametrize(
    "fields",
    [{"value": -1}, {"name": "sms sent"}, {"kind": "GAUGE"}, {"unit": "s"}, {"dimensions": {"os": ""}}],
    ids=str,
)
def test_an_invalid_sample_raises_the_real_producers_error(real: FunnelProducer, fields: dict[str, Any]) -> None:
    """As events do."""
    messages = []
    for producer in (MemoryProducer(), real):
        with pytest.raises(ValueError, match=r".") as caught:
            producer.record({"name": "sms_sent", "kind": "COUNTER", **fields})
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_events_are_what_a_reader_of_the_topic_gets() -> None:
    """Defaults of the producer and the schema are filled in."""
    with MemoryProducer(app_version="5.2.0", funnel="checkout") as memory:
        shown_at = memory.impression("s-1", "A", os="iOS")
        memory.verification("s-1", "A", "SUCCESS", shown_at=shown_at, ts=shown_at + 700)
        memory.emit(FunnelEvent(sign_up_session_id="s-2", step="B", phase=Phase.IMPRESSION))
    first, second, third = memory.events
    assert (first.os, first.app_version, first.funnel, first.ts) == ("iOS", "5.2.0", "checkout", shown_at)
    assert (second.phase, second.status, second.duration_ms) == (Phase.POST_VERIFICATION, Status.SUCCESS, 700)
    assert (third.os, third.app_version, third.funnel) == ("unknown", "", "sign_up")


def test_of_finds_events_by_their_fields() -> None:
    """Every given field must be equal; clear forgets."""
    memory = MemoryProducer()
    with memory.step("s-1", "A", os="iOS") as step:
        step.failure()
        step.success()
    memory.impression("s-2", "B")
    assert [event.status for event in memory.of(step="A")] == [None, "FAILURE", "SUCCESS"]
    assert [event.sign_up_session_id for event in memory.of(phase="IMPRESSION")] == ["s-1", "s-2"]
    assert len(memory.of(step="A", status="SUCCESS", sign_up_session_id="s-1", os="iOS", funnel="sign_up")) == 1
    assert memory.of(step="B", status="SUCCESS") == []
    memory.clear()
    assert memory.events == []


def test_counters_and_timers_are_kept_apart() -> None:
    """Each with value and dimensions."""
    memory = MemoryProducer()
    memory.counter("sms_sent", 3, os="iOS")
    memory.timer("sms_delivery", 850.4)
    assert [(one.name, one.value, one.dimensions) for one in memory.counters] == [("sms_sent", 3, {"os": "iOS"})]
    assert [(one.name, one.value) for one in memory.timers] == [("sms_delivery", 850)]
    assert isinstance(memory.timers[0], Metric)
    assert memory.stats().delivered == 2
    assert memory.flush() == 0


def test_a_closed_memory_producer_takes_nothing() -> None:
    """As the real one."""
    memory = MemoryProducer()
    memory.close()
    with pytest.raises(RuntimeError, match="the producer is closed"):
        memory.impression("s-1", "A")


def test_decorators_take_a_memory_producer() -> None:
    """Handlers of both kinds."""
    memory = MemoryProducer()

    @track_impression(memory, "A")
    def show(session_id: str) -> str:
        return "form"

    @track_verification(memory, "A")
    async def verify(session_id: str) -> bool:
        return False

    assert show("s-1") == "form"
    assert asyncio.run(verify("s-1")) is False
    assert [event.status for event in memory.of(step="A")] == [None, Status.FAILURE]


def test_the_asynchronous_one_keeps_its_events_in_memory() -> None:
    """The calls of AsyncFunnelProducer, without Kafka."""

    async def sign_up(producer: AsyncMemoryProducer) -> None:
        shown_at = await producer.impression("s-1", "A")
        await producer.verification("s-1", "A", "SUCCESS", shown_at=shown_at)
        await producer.counter("sms_sent")
        with pytest.raises(ValueError, match=r"^step: "):
            await producer.emit(SHOWN, step="")
        await producer.close()

    producer = AsyncMemoryProducer()
    asyncio.run(sign_up(producer))
    assert [event.status for event in producer.memory.events] == [None, "SUCCESS"]
    assert len(producer.memory.counters) == 1
