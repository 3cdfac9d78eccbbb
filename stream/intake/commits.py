"""What Kafka is to be told of how far partitions are counted, until it confirms it. Pure.

A commit that is lost with a broker is repeated, and so is one that a worker that died did not get to: otherwise lag
tools and ``funnelwatch doctor`` would show records as unread until the next one comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TELL_AGAIN_S = 5.0
"""An offset that is not confirmed is committed again after this, s."""
LONG_AGO_S = float("-inf")


class CommittedOffsets:
    """By partition the offset to be confirmed, and when it was last committed, s. From any thread."""

    def __init__(self) -> None:
        self._wanted: dict[int, tuple[int, float]] = {}

    def want(self, next_offsets: Mapping[int, int], now_s: float = LONG_AGO_S) -> None:
        """Note offsets that were committed just now; without a time, those that are to be committed yet."""
        self._wanted.update({partition: (offset, now_s) for partition, offset in next_offsets.items()})

    def confirm(self, next_offsets: Mapping[int, int]) -> None:
        """Forget what Kafka knows by now; a later offset of the same partition is still to be confirmed."""
        for partition, offset in next_offsets.items():
            if self._wanted.get(partition, (None, 0.0))[0] == offset:
                self._wanted.pop(partition, None)

    def due(self, assigned: Collection[int], now_s: float) -> dict[int, int]:
        """What to commit again now, of the partitions that this worker has; the others are another's to tell of."""
        for partition in [partition for partition in self._wanted.copy() if partition not in assigned]:
            self._wanted.pop(partition, None)
        old = self._wanted.copy().items()
        return {partition: offset for partition, (offset, at_s) in old if now_s - at_s >= TELL_AGAIN_S}
