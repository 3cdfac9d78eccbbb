"""``AsyncFunnelProducer``: for apps on asyncio; a full buffer suspends its callers, and nothing else does."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self

from funnelwatch.producers.client.emitter import Emitter
from funnelwatch.producers.client.fields import arguments_of, emit_arguments, given, impression_of, verification_of
from funnelwatch.producers.client.outcomes import BufferFull, Undelivered
from funnelwatch.producers.client.producer import FLUSH_TIMEOUT_S, FunnelProducer
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.events import FunnelEvent, new_event_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from funnelwatch.producers.client.outcomes import ProducerStats
    from funnelwatch.schemas.settings import Settings

ROOM_AGAIN_S = 0.01
"""How often a waiting coroutine looks for room, in seconds."""


class AsyncFunnelProducer:
    """A ``FunnelProducer`` whose full buffer slows its callers down instead of losing events: backpressure by awaiting.

    ::

        async with AsyncFunnelProducer(app_version="5.2.0") as producer:
            shown_at = await producer.impression(session_id, "VERIFY_SMS_CODE", os="iOS")

    While there is room nothing is awaited. Cancelling a waiting ``emit`` leaves the event out.

    Args:
        settings: where Kafka is and the topic's name; by default those of the environment.
        buffer_events: size of the buffer, in events.
        delivery_timeout_s: an event that Kafka has not confirmed by then counts as failed, in seconds.
        unreachable_wait_s: how long ``close`` waits while no broker answers; see ``FunnelProducer``.
        longest_wait_s: an event that has found no room by then is dropped and reported to ``on_error``; None: wait
            on. An event that Kafka does not take in ``delivery_timeout_s`` makes room, so every wait ends.
        on_error: called with each event that was dropped or failed, mostly from another thread; must be quick.
        funnel: the funnel of every event that names none.
        contexts: other values to keep with every event.
        **dimensions: os, browser, app_version and further dimensions of every event that does not have its own.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        buffer_events: int = 100_000,
        delivery_timeout_s: float = 120.0,
        unreachable_wait_s: float | None = None,
        longest_wait_s: float | None = None,
        on_error: Callable[[Undelivered], None] | None = None,
        funnel: str | None = None,
        contexts: dict[str, str] | None = None,
        **dimensions: str | None,
    ) -> None:
        producer = FunnelProducer(
            settings,
            when_full="raise",
            buffer_events=buffer_events,
            delivery_timeout_s=delivery_timeout_s,
            unreachable_wait_s=unreachable_wait_s,
            on_error=on_error,
            funnel=funnel,
            contexts=contexts,
            **dimensions,
        )
        self._keep_in(producer, longest_wait_s, on_error)

    def _keep_in(
        self,
        producer: Emitter,
        longest_wait_s: float | None = None,
        on_error: Callable[[Undelivered], None] | None = None,
    ) -> None:
        """Emit by a producer; a test double brings its own."""
        self._producer = producer
        self._longest_wait_s = longest_wait_s
        self._on_error = on_error
        self._dropped = 0

    @emit_arguments
    async def emit(self, event: FunnelEvent | Mapping[str, Any] | None = None, /, **fields: Any) -> bool:
        """Put an event into the buffer, as soon as it has room.

        Args:
            event: a whole event; or None, or a mapping, to be completed by ``fields``.
            **fields: as of ``FunnelProducer.emit``; ts is now, also when room comes later.

        Returns:
            Whether the producer took the event; False when it was dropped after ``longest_wait_s``.

        Raises:
            ValueError: a field is invalid; the message names it.
            RuntimeError: the producer is closed.
        """
        whole = event.record() if isinstance(event, FunnelEvent) else event or {}
        record = {"event_id": new_event_id(), "ts": wall_clock_ms(), **given(**whole)}
        session_id = str(fields.get("sign_up_session_id") or record.get("sign_up_session_id"))
        return await self._with_room(lambda: self._producer.emit(record, **given(**fields)), session_id)

    @arguments_of(Emitter.impression)
    async def impression(self, *args: Any, **fields: Any) -> int:
        """Emit that a step was shown; see ``FunnelProducer.impression``."""
        record = impression_of(*args, **fields)
        await self.emit(record)
        return int(record["ts"])

    @arguments_of(Emitter.verification)
    async def verification(self, *args: Any, **fields: Any) -> None:
        """Emit that the server has accepted or rejected the input of a step; see ``FunnelProducer.verification``."""
        await self.emit(verification_of(*args, **fields))

    async def counter(self, name: str, by: int = 1, /, **dimensions: str) -> bool:
        """Count something beside the funnel; see ``FunnelProducer.counter``."""
        return await self._with_room(lambda: self._producer.counter(name, by, **dimensions), name)

    async def timer(self, name: str, ms: float, /, **dimensions: str) -> bool:
        """Time something beside the funnel; see ``FunnelProducer.timer``."""
        return await self._with_room(lambda: self._producer.timer(name, ms, **dimensions), name)

    def stats(self) -> ProducerStats:
        """The counters; what waits for room is not emitted yet."""
        return self._producer.stats()

    @property
    def dropped(self) -> int:
        """Events that found no room in ``longest_wait_s``."""
        return self._dropped

    async def flush(self, timeout: float = FLUSH_TIMEOUT_S) -> int:  # noqa: ASYNC109 - librdkafka's own
        """Wait until every event taken so far is delivered or has failed; returns how many still wait."""
        return await asyncio.to_thread(self._producer.flush, timeout)

    async def close(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - librdkafka's own
        """Flush, then end; see ``FunnelProducer.close``."""
        await asyncio.to_thread(self._producer.close, timeout)

    async def __aenter__(self) -> Self:
        """The producer itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush and close."""
        await self.close()

    async def _with_room(self, put: Callable[[], bool], what: str) -> bool:
        end = None if self._longest_wait_s is None else time.monotonic() + self._longest_wait_s
        while True:
            try:
                return put()
            except BufferFull as full:
                if end is not None and time.monotonic() >= end:
                    self._dropped += 1
                    if self._on_error:
                        self._on_error(Undelivered(what, "BUFFER_FULL", str(full)))
                    return False
            await asyncio.sleep(ROOM_AGAIN_S)
