"""What an agent takes from the channel of fetches at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import faust
import pytest

from funnelwatch.stream.intake.batch_channel import WAITED_FOR, BatchChannel, backlog
from funnelwatch.stream.intake.polled_batch import ValidatedPoll

if TYPE_CHECKING:
    from collections.abc import Sequence


class Fetch(ValidatedPoll):
    """A fetch of which only the number of events matters."""

    events = 100


def fetch(*, is_full: bool) -> ValidatedPoll:
    """Some fetch."""
    return Fetch([], [], newly_assigned=False, is_full=is_full, taken_s=0.0)


def taken(
    waiting: Sequence[ValidatedPoll], coming: Sequence[ValidatedPoll] = (), events: int = 0
) -> list[list[ValidatedPoll]]:
    """What an agent takes, time after time, of what waits at first and what comes one by one as soon as it waits."""
    found: list[list[ValidatedPoll]] = []

    async def agent(stream: Any) -> None:
        # What an agent iterates over; to iterate over the stream itself would make a consumer of Kafka.
        async for first in stream.channel:
            found.append(await backlog(stream, first, events))  # noqa: PERF401 - seen from outside while it goes on

    async def run() -> None:
        channel = BatchChannel(faust.App("test", store="memory://"), maxsize=8)
        stream = channel.stream()
        for one in waiting:
            await channel.put(one)  # type: ignore[arg-type]
        working = asyncio.ensure_future(agent(stream))
        for one in coming:
            await asyncio.sleep(0.01)
            await channel.put(one)  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        working.cancel()
        await asyncio.wait({working})

    asyncio.run(run())
    return found


def test_all_that_wait_are_taken_together() -> None:
    """However many they are, as they were put in."""
    waiting = [fetch(is_full=one == 2) for one in range(7)]
    assert taken(waiting) == [waiting]


@pytest.mark.parametrize("count", [WAITED_FOR, WAITED_FOR - 1])
def test_full_fetches_are_waited_for(count: int) -> None:
    """A backlog is counted a few fetches at a time; the one that is not full is the end of it."""
    coming = [fetch(is_full=one < WAITED_FOR - 1) for one in range(count)]
    assert taken([], coming) == ([coming] if count == WAITED_FOR else [])


def test_a_fetch_that_is_not_full_is_counted_at_once() -> None:
    """Nobody waits for more."""
    coming = [fetch(is_full=False) for _ in range(3)]
    assert taken([], coming) == [[one] for one in coming]


def test_what_is_full_without_end_is_counted_by_the_few() -> None:
    """Memory and delay stay bounded."""
    coming = [fetch(is_full=True) for _ in range(2 * WAITED_FOR)]
    assert taken([], coming) == [coming[:WAITED_FOR], coming[WAITED_FOR:]]


def test_a_backlog_is_counted_by_as_many_events_as_are_worth_a_flush() -> None:
    """Where a flush writes many rows it takes more fetches; the end of the backlog ends it all the same."""
    coming = [fetch(is_full=one != 11) for one in range(12)]
    assert taken([], coming, events=750) == [coming[:8], coming[8:]]
