"""``Emitter``: the calls by which an app emits events and metrics; each completes and validates one record."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self, overload

from funnelwatch.producers.client.fields import (
    check_dimensions,
    emit_arguments,
    event_of,
    given,
    impression_of,
    verification_of,
    with_dimensions,
)
from funnelwatch.producers.client.step import StepShown
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.dimensions import merged_contexts
from funnelwatch.schemas.events import FunnelEvent, new_event_id
from funnelwatch.schemas.metrics import Metric, MetricKind
from funnelwatch.schemas.whole import whole_event, whole_metric

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from funnelwatch.producers.client.fields import KindName, StatusName
    from funnelwatch.producers.client.outcomes import ProducerStats


class Emitter(ABC):
    """Completes and validates events and samples; a subclass encodes and keeps or sends them.

    Args:
        defaults: the funnel, contexts and dimensions that every event shares.

    Raises:
        ValueError: one of them is invalid.
    """

    def __init__(self, defaults: Mapping[str, Any]) -> None:
        dimensions = (name for name in defaults if name not in ("funnel", "contexts"))
        check_dimensions(dimensions, tuple(inspect.signature(type(self)).parameters))
        self._defaults = {"funnel": "sign_up", **given(**defaults)}
        merged_contexts(self._defaults)

    @emit_arguments
    def emit(self, event: FunnelEvent | Mapping[str, Any] | None = None, /, **fields: Any) -> bool:
        """Put an event into the buffer.

        Args:
            event: a whole event; or None, or a mapping, to be completed by ``fields``.
            **fields: fields of ``FunnelEvent``, and further dimensions: ``country="DE"`` goes into its contexts. Absent
                ones, and those that are None, take their defaults: a random event_id, ts now, the funnel sign_up.

        Returns:
            Whether the producer took the event; False when the buffer is full and the event was dropped.

        Raises:
            ValueError: a field is invalid; the message names it.
            BufferFull: the buffer is full and ``when_full`` is "raise".
            RuntimeError: the producer is closed.
        """
        whole = event.record() if isinstance(event, FunnelEvent) else event or {}
        record = whole_event(event_of(self._defaults, whole, fields))
        if "event_id" not in record:
            record["event_id"] = new_event_id()
        if "ts" not in record:
            record["ts"] = wall_clock_ms()
        return self._take_event(record)

    def counter(self, name: str, by: int = 1, /, **dimensions: str) -> bool:
        """Count something beside the funnel: ``counter("sms_sent", os="iOS")``; errors as of ``emit``.

        Args:
            name: of the counter: letters, digits, underscores and colons.
            by: how many times, 0 to 1,000,000,000.
            **dimensions: what it is counted by; few values each, no ids.
        """
        return self.record(name=name, kind=MetricKind.COUNTER, value=by, dimensions=dimensions)

    def timer(self, name: str, ms: float, /, **dimensions: str) -> bool:
        """Time something beside the funnel: ``timer("sms_delivery", 850)``; errors as of ``emit``.

        Args:
            name: of the timer: letters, digits, underscores and colons.
            ms: how long, in milliseconds, 0 to 1,000,000,000; rounded.
            **dimensions: what it is grouped by; few values each, no ids.
        """
        return self.record(name=name, kind=MetricKind.TIMER, value=round(ms), dimensions=dimensions)

    @overload
    def record(
        self,
        metric: Metric | Mapping[str, Any],
        /,
        *,
        name: str = ...,
        kind: KindName = ...,
        value: float = ...,
        dimensions: dict[str, str] = ...,
        ts: int = ...,
        event_id: str = ...,
    ) -> bool: ...

    @overload
    def record(
        self,
        /,
        *,
        name: str,
        kind: KindName,
        value: float = ...,
        dimensions: dict[str, str] = ...,
        ts: int = ...,
        event_id: str = ...,
    ) -> bool: ...

    def record(self, metric: Metric | Mapping[str, Any] | None = None, /, **fields: Any) -> bool:
        """Put a sample of a counter or timer into the buffer; answer and errors are those of ``emit``.

        Args:
            metric: a whole sample; or None, or a mapping, to be completed by ``fields``.
            **fields: fields of ``Metric``. Absent ones take their defaults: a random event_id, ts now, value 1.
        """
        whole = metric.record() if isinstance(metric, Metric) else metric or {}
        record = whole_metric({"value": 1, **whole, **fields})
        if "event_id" not in record:
            record["event_id"] = new_event_id()
        if "ts" not in record:
            record["ts"] = wall_clock_ms()
        return self._take_metric(record)

    def step(
        self,
        session_id: str,
        step: str,
        *,
        ts: int | None = None,
        funnel: str | None = None,
        contexts: dict[str, str] | None = None,
        **dimensions: str | None,
    ) -> StepShown:
        """Show and verify a step within one block of code; see ``StepShown``, and ``impression`` for the arguments."""
        check_dimensions(dimensions)
        fields = with_dimensions(given(ts=ts, funnel=funnel, contexts=contexts), dimensions)
        return StepShown(self, session_id, step, fields)

    def impression(
        self,
        /,
        session_id: str,
        step: str,
        *,
        ts: int | None = None,
        funnel: str | None = None,
        event_id: str | None = None,
        contexts: dict[str, str] | None = None,
        **dimensions: str | None,
    ) -> int:
        """Emit that a step was shown; for a web server, where the verification is another request.

        Args:
            session_id: one person's way through the funnel.
            step: name of the step.
            ts: when the step was shown, ms; None: now.
            funnel: the funnel of the step; None: the producer's default.
            event_id: unique; by default a random UUID.
            contexts: other values to keep, under names that no dimension can have.
            **dimensions: os, browser, app_version and any further dimension: ``os="iOS", country="DE"``. None: the
                producer's default.

        Returns:
            The event's ts in ms. Keep it (in the web session, or a hidden field) and give it to ``verification``.

        Raises:
            ValueError: a field or dimension is invalid; the message names it.
        """
        fields = impression_of(
            session_id, step, ts=ts, funnel=funnel, event_id=event_id, contexts=contexts, **dimensions
        )
        self.emit(fields)
        return int(fields["ts"])

    def verification(
        self,
        /,
        session_id: str,
        step: str,
        status: StatusName,
        *,
        shown_at: int | None = None,
        ts: int | None = None,
        duration_ms: float | None = None,
        funnel: str | None = None,
        event_id: str | None = None,
        contexts: dict[str, str] | None = None,
        **dimensions: str | None,
    ) -> None:
        """Emit that the server has accepted or rejected the input of a step.

        The other arguments and the errors are those of ``impression``.

        Args:
            session_id: the session of the impression.
            step: the step of the impression.
            status: SUCCESS or FAILURE.
            shown_at: what ``impression`` returned, ms; None where it is unknown, and so is the duration. Where the
                clocks of two servers differ so much that the duration would be negative, it is 0.
            ts: when the server verified the input, ms; None: now.
            duration_ms: the time since the impression, where the app knows it without ``shown_at``.
            funnel: the funnel of the step.
            event_id: unique.
            contexts: other values to keep.
            **dimensions: os, browser, app_version and any further dimension.
        """
        fields = verification_of(
            session_id,
            step,
            status,
            shown_at,
            ts=ts,
            duration_ms=duration_ms,
            funnel=funnel,
            event_id=event_id,
            contexts=contexts,
            **dimensions,
        )
        self.emit(fields)

    @abstractmethod
    def stats(self) -> ProducerStats:
        """The counters."""

    @abstractmethod
    def flush(self, timeout: float = ...) -> int:
        """Wait until every event taken so far is delivered or has failed; returns how many still wait."""

    @abstractmethod
    def close(self, timeout: float | None = None) -> None:
        """Flush, then end."""

    def __enter__(self) -> Self:
        """The producer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush and close."""
        self.close()

    @abstractmethod
    def _take_event(self, record: dict[str, Any]) -> bool:
        """Validate and take a complete event."""

    @abstractmethod
    def _take_metric(self, record: dict[str, Any]) -> bool:
        """Validate and take a complete sample."""
