"""AsyncFunnelProducer while Kafka is away: a full buffer is waited for, and the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch import AsyncFunnelProducer, Undelivered
from funnelwatch.schemas.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOWN: dict[str, Any] = {"sign_up_session_id": "s-1", "step": "A", "phase": "IMPRESSION"}
BUFFER = 3


@pytest.fixture
def away() -> Iterator[Settings]:
    """A Kafka that takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield Settings(kafka_bootstrap_servers=f"127.0.0.1:{silent.getsockname()[1]}")


def test_a_full_buffer_is_awaited_while_others_run(away: Settings) -> None:
    """Room comes here from events that fail after the delivery timeout."""

    async def run() -> None:
        producer = AsyncFunnelProducer(away, buffer_events=BUFFER, delivery_timeout_s=4.0)
        for _ in range(BUFFER):
            assert await producer.emit(SHOWN)
        waiting = asyncio.create_task(producer.emit(SHOWN))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        assert producer.stats().emitted == BUFFER
        assert await asyncio.wait_for(waiting, 90)
        assert producer.stats().failed >= 1
        await producer.close(0.1)

    asyncio.run(run())


def test_an_event_that_finds_no_room_in_time_is_dropped_and_told(away: Settings) -> None:
    """As long as the app will wait, and no longer."""
    lost: list[Undelivered] = []

    async def run() -> None:
        producer = AsyncFunnelProducer(away, buffer_events=BUFFER, longest_wait_s=0.05, on_error=lost.append)
        assert [await producer.emit(SHOWN) for _ in range(BUFFER + 1)] == [True] * BUFFER + [False]
        assert not await producer.counter("sms_sent", os="iOS")
        assert (producer.dropped, [one.reason for one in lost]) == (2, ["BUFFER_FULL"] * 2)
        await producer.close(0.1)

    asyncio.run(run())


def test_a_wait_that_is_cancelled_leaves_the_event_out(away: Settings) -> None:
    """A request that was given up."""

    async def run() -> None:
        producer = AsyncFunnelProducer(away, buffer_events=BUFFER)
        for _ in range(BUFFER):
            await producer.emit(SHOWN)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(producer.emit(SHOWN), 0.1)
        assert producer.stats().emitted == BUFFER
        with pytest.raises(ValueError, match=r"^step: "):
            await producer.emit(SHOWN, step="")
        await producer.close(0.1)

    asyncio.run(run())
