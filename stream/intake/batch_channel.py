"""The Faust channel between the intake and the counting, and what is taken from it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import faust
from mode.utils.queues import FlowControlEvent, ThrowableQueue

if TYPE_CHECKING:
    from funnelwatch.stream.intake.polled_batch import ValidatedPoll

WAITED_FOR = 4
"""How many fetches of a backlog are counted in one flush at least; more if they are there already."""


class BatchChannel(faust.Channel[Any]):
    """A channel whose queue outlives a rebalance of Faust's own topics.

    Faust clears its queues then, because it will read their messages again; ours are not Faust's to read.
    """

    @property
    def queue(self) -> Any:
        """The queue, made at the first use."""
        if self._queue is None:
            own = FlowControlEvent(initially_suspended=False)
            self._queue = ThrowableQueue(maxsize=self.maxsize, flow_control=own)
        return self._queue


async def backlog(stream: Any, first: ValidatedPoll, events: int = 0) -> list[ValidatedPoll]:
    """A fetch and what waits behind it; where fetches are full, and so more is soon to come, a few of them.

    Args:
        stream: an agent's; its channel has a queue of its own, which is not that of the channel it was made of.
        first: what the stream gave.
        events: of a backlog, at least so many.
    """
    # A full batch means that the next one is nearly there: one larger flush costs less than two.
    queue, found = stream.channel.queue, [first]
    held = first.events
    while queue.qsize() or (found[-1].is_full and (len(found) < WAITED_FOR or held < events)):
        found.append(await queue.get())
        held += found[-1].events
    return found
