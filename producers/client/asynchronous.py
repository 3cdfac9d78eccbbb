"""``AsyncFunnelProducer``: for apps on asyncio, where a full buffer is waited for and nothing else is."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self

from funnelwatch.producers.client.producer import CLOSE_TIMEOUT_S, BufferFull, FunnelProducer, Undelivered
from funnelwatch.schemas.events import FunnelEvent, Phase, Status, new_event_id, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from funnelwatch.producers.client.producer import ProducerStats
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
        longest_wait_s: an event that has found no room by then is dropped and told to ``on_error``; None: wait on. As
            what Kafka does not take in ``delivery_timeout_s`` makes room, no wait is for ever.
        on_error: called with each event that was dropped or failed, mostly from another thread; must be quick.
        defaults: fields that every event shares, such as ``funnel`` or ``app_version``.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        buffer_events: int = 100_000,
        delivery_timeout_s: float = 120.0,
        longest_wait_s: float | None = None,
        on_error: Callable[[Undelivered], None] | None = None,
        **defaults: Any,
    ) -> None:
        self._longest_wait_s = longest_wait_s
        self._on_error = on_error
        self._dropped = 0
        self._producer = FunnelProducer(
            settings,
            when_full="raise",
            buffer_events=buffer_events,
            delivery_timeout_s=delivery_timeout_s,
            on_error=on_error,
            **defaults,
        )

    async def emit(self, event: FunnelEvent | Mapping[str, Any] | None = None, /, **fields: Any) -> bool:
        """Put an event into the buffer, as soon as it has room.

        Args:
            event: a whole event; or None, or a mapping, to be completed by ``fields``.
            **fields: fields of ``FunnelEvent``; ts is now, also when room comes later.

        Returns:
            Whether it was taken; False when it was dropped after ``longest_wait_s``.

        Raises:
            ValueError: a field cannot be so; the message names it.
            RuntimeError: the producer is closed.
        """
        given = event.record() if isinstance(event, FunnelEvent) else event or {}
        record = {"event_id": new_event_id(), "ts": now_ms(), **given, **fields}
        return await self._with_room(lambda: self._producer.emit(record), str(record.get("sign_up_session_id")))

    async def impression(self, session_id: str, step: str, **fields: Any) -> int:
        """A step was shown; returns its ts in ms, for ``verification``."""
        ts = int(fields.pop("ts", None) or now_ms())
        await self.emit(sign_up_session_id=session_id, step=step, phase=Phase.IMPRESSION, ts=ts, **fields)
        return ts

    async def verification(
        self, session_id: str, step: str, status: Status | str, *, shown_at: int | None = None, **fields: Any
    ) -> None:
        """The server has judged the input of a step; see ``FunnelProducer.verification``."""
        ts = int(fields.pop("ts", None) or now_ms())
        if shown_at is not None:
            fields["duration_ms"] = max(0, ts - shown_at)
        fields |= {"sign_up_session_id": session_id, "step": step, "status": status, "ts": ts}
        await self.emit(phase=Phase.POST_VERIFICATION, **fields)

    async def counter(self, name: str, by: int = 1, /, **dimensions: str) -> bool:
        """Something happened, ``by`` times; see ``FunnelProducer.counter``."""
        return await self._with_room(lambda: self._producer.counter(name, by, **dimensions), name)

    async def timer(self, name: str, ms: float, /, **dimensions: str) -> bool:
        """Something took ``ms`` milliseconds; see ``FunnelProducer.timer``."""
        return await self._with_room(lambda: self._producer.timer(name, ms, **dimensions), name)

    def stats(self) -> ProducerStats:
        """The counters; what waits for room is not emitted yet."""
        return self._producer.stats()

    @property
    def dropped(self) -> int:
        """Events that found no room in ``longest_wait_s``."""
        return self._dropped

    async def flush(self, timeout: float = CLOSE_TIMEOUT_S) -> int:  # noqa: ASYNC109 - librdkafka's own
        """Wait until every event taken so far is delivered or has failed; returns how many still wait."""
        return await asyncio.to_thread(self._producer.flush, timeout)

    async def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:  # noqa: ASYNC109 - librdkafka's own
        """Flush, then end; what still waits after ``timeout`` seconds counts as failed."""
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
