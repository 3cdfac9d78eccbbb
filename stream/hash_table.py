"""A hash table of numbers by digest, asked for a whole array at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Digests = NDArray[np.uint64]

SMALLEST = 1 << 10
EMPTY = np.uint64(0)


class HashTable:
    """Digests, each with a number; open addressing with linear probing, at most two thirds full.

    A digest is itself the place where it is looked for first, so its bits must be as good as random ones. The digest 0
    stands for an empty slot; it is kept as a 1.
    """

    def __init__(self) -> None:
        self._clear(SMALLEST)

    def _clear(self, capacity: int) -> None:
        self._mask = np.uint64(capacity - 1)
        # Side by side, so that both come into the processor's cache at once.
        table = np.zeros((capacity, 2), np.uint64)
        self._digests: Digests = table[:, 0]
        self._numbers: Ints = table[:, 1].view(np.int64)
        self._held = 0

    def __len__(self) -> int:
        """How many digests there are."""
        return self._held

    def get(self, digests: Digests, default: int) -> Ints:
        """The number of each digest."""
        return self.look_up(digests, default)[1]

    def look_up(self, digests: Digests, default: int) -> tuple[Digests, Ints]:
        """Where each digest is, or would be put, and its number."""
        digests = np.maximum(digests, np.uint64(1))
        slots = self._slots(digests)
        return slots, np.where(self._digests[slots] == digests, self._numbers[slots], default)

    def put(self, digests: Digests, numbers: Ints, slots: Digests | None = None) -> None:
        """Set the number of each digest; of one that stands there twice to either number.

        Args:
            digests: of any size.
            numbers: as many.
            slots: what ``look_up`` has said of them, where nothing was put or reserved since.
        """
        digests = np.maximum(digests, np.uint64(1))
        if slots is None:
            self.reserve(digests.size)
            slots = self._slots(digests)
        while digests.size:
            added = self._digests[slots] == EMPTY
            self._digests[slots] = digests
            # Where several want the same slot one gets it; the other digests have to look again.
            marks = np.arange(digests.size)
            self._numbers[slots] = marks
            self._held += int(np.count_nonzero(added & (self._numbers[slots] == marks)))
            placed = self._digests[slots] == digests
            self._numbers[slots[placed]] = numbers[placed]
            digests, numbers = digests[~placed], numbers[~placed]
            slots = self._slots(digests)

    def reserve(self, more: int) -> None:
        """Make room for so many more digests."""
        wanted, capacity = self._held + more, self._digests.size
        if wanted * 3 <= capacity * 2:
            return
        while wanted * 3 > capacity * 2:
            capacity *= 2
        held = self._digests != EMPTY
        digests, numbers = self._digests[held], self._numbers[held]
        self._clear(capacity)
        self.put(digests, numbers, self._slots(digests))

    def _slots(self, digests: Digests) -> Digests:
        """Where each digest is, or the empty slot where it would be put."""
        slots = digests & self._mask
        found = self._digests[slots]
        going = np.flatnonzero((found != digests) & (found != EMPTY))
        while going.size:
            wanted = digests[going]
            further = slots[going] + np.uint64(1) & self._mask
            slots[going] = further
            found = self._digests[further]
            going = going[(found != wanted) & (found != EMPTY)]
        return slots
