"""Test doubles for apps: ``MemoryProducer`` keeps events in lists instead of sending them, and is as strict.

With pytest, ``pytest_plugins = ["funnelwatch.testing"]`` in ``conftest.py`` offers the fixture ``funnel_producer``.
Without pytest the module works as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from funnelwatch.producers.client.asynchronous import AsyncFunnelProducer
from funnelwatch.producers.client.emitter import Emitter
from funnelwatch.producers.client.fields import check_dimensions, given
from funnelwatch.producers.client.outcomes import TOO_LARGE, ProducerStats
from funnelwatch.schemas.codec import Decoder, Encoder
from funnelwatch.schemas.events import FunnelEvent, Phase, Status, event_error
from funnelwatch.schemas.metrics import Metric, MetricKind, metric_error, series_name

try:
    import pytest
except ImportError:
    HAS_PYTEST = False
else:
    HAS_PYTEST = True

if TYPE_CHECKING:
    from funnelwatch.producers.client.fields import PhaseName, StatusName

__all__ = ["AsyncMemoryProducer", "MemoryProducer"]

MAX_BYTES = 1_000_000
"""Librdkafka's default ``message.max.bytes``."""


class MemoryProducer(Emitter):
    """Has the calls of ``FunnelProducer`` and keeps what Kafka would get.

    Events and samples are encoded and decoded as on their way through Kafka. Invalid ones raise the errors that
    ``FunnelProducer`` raises.

    ::

        producer = MemoryProducer()
        sign_up(producer)
        assert [event.status for event in producer.of(step="VERIFY_SMS_CODE")] == [None, "FAILURE", "SUCCESS"]

    Args:
        funnel: the funnel of every event that names none.
        contexts: other values to keep with every event.
        **dimensions: os, browser, app_version and further dimensions of every event that does not have its own.

    Attributes:
        events: every event, in order.
        counters: every sample of a counter, in order.
        timers: every sample of a timer, in order.
    """

    def __init__(
        self,
        *,
        funnel: str | None = None,
        contexts: dict[str, str] | None = None,
        **dimensions: str | None,
    ) -> None:
        super().__init__({"funnel": funnel, "contexts": contexts, **dimensions})
        self.events: list[FunnelEvent] = []
        self.counters: list[Metric] = []
        self.timers: list[Metric] = []
        self._closed = False

    def of(
        self,
        *,
        step: str | None = None,
        phase: PhaseName | None = None,
        status: StatusName | None = None,
        sign_up_session_id: str | None = None,
        funnel: str | None = None,
        **dimensions: str | None,
    ) -> list[FunnelEvent]:
        """The events whose fields and dimensions are as given, in order; None: any value."""
        check_dimensions(dimensions, ("step",))
        wanted = given(
            step=step, phase=phase, status=status, sign_up_session_id=sign_up_session_id, funnel=funnel, **dimensions
        )
        return [e for e in self.events if wanted.items() <= {**e.contexts, **e.record(), "contexts": ""}.items()]

    def clear(self) -> None:
        """Forget every event and sample."""
        for kept in (self.events, self.counters, self.timers):
            kept.clear()

    def stats(self) -> ProducerStats:
        """Everything that was emitted counts as delivered."""
        taken = len(self.events) + len(self.counters) + len(self.timers)
        return ProducerStats(emitted=taken, delivered=taken, failed=0, dropped=0, buffered=0)

    def flush(self, timeout: float = 0.0) -> int:
        """Nothing waits."""
        return 0

    def close(self, timeout: float | None = None) -> None:
        """End: a later event raises ``RuntimeError``."""
        self._closed = True

    def _take_event(self, record: dict[str, Any]) -> bool:
        found = self._through_kafka("FunnelEvent", record, event_error, record.get("sign_up_session_id"))
        found["phase"] = Phase(found["phase"])
        found["status"] = Status(found["status"]) if found["status"] else None
        self.events.append(FunnelEvent(**found))
        return True

    def _take_metric(self, record: dict[str, Any]) -> bool:
        key = series_name(str(record.get("name")), record.get("dimensions") or {})
        found = self._through_kafka("Metric", record, metric_error, key)
        metric = Metric(**{**found, "kind": MetricKind(found["kind"])})
        (self.counters if metric.kind is MetricKind.COUNTER else self.timers).append(metric)
        return True

    def _through_kafka(self, name: str, record: dict[str, Any], wrong_with: Any, key: Any) -> dict[str, Any]:
        """The record as a reader of the topic gets it; raises what ``FunnelProducer`` raises."""
        if self._closed:
            raise RuntimeError("the producer is closed")
        value = ENCODE[name](record)
        if wrong := wrong_with(record):
            raise ValueError(wrong)
        if len(value) + len(str(key).encode()) > MAX_BYTES:
            raise ValueError(TOO_LARGE)
        return dict(DECODE[name](value))


ENCODE = {name: Encoder(name) for name in ("FunnelEvent", "Metric")}
DECODE = {name: Decoder(name) for name in ENCODE}


class AsyncMemoryProducer(AsyncFunnelProducer):
    """Has the calls of ``AsyncFunnelProducer`` and keeps what Kafka would get in ``memory``, a ``MemoryProducer``.

    Args:
        memory: where the events go; by default a new one.
    """

    def __init__(self, memory: MemoryProducer | None = None) -> None:
        self.memory = memory or MemoryProducer()
        self._keep_in(self.memory)


if HAS_PYTEST:

    @pytest.fixture
    def funnel_producer() -> MemoryProducer:
        """A ``MemoryProducer`` for one test."""
        return MemoryProducer()
