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
        self._digests: Digests = np.zeros(capacity, np.uint64)
        self._numbers: Ints = np.zeros(capacity, np.int64)
        self._held = 0

    def __len__(self) -> int:
        """How many digests there are."""
        return self._held

    def get(self, digests: Digests, default: int) -> Ints:
        """The number of each digest."""
        digests = np.maximum(digests, np.uint64(1))
        slots = self._slots(digests)
        return np.where(self._digests[slots] == digests, self._numbers[slots], default)

    def put(self, digests: Digests, numbers: Ints) -> None:
        """Set the number of each digest; none of them may stand there twice."""
        digests = np.maximum(digests, np.uint64(1))
        if (self._held + digests.size) * 3 > self._digests.size * 2:
            self._grow(self._held + digests.size)
        self._put(digests, numbers)

    def _put(self, digests: Digests, numbers: Ints) -> None:
        while digests.size:
            slots = self._slots(digests)
            added = self._digests[slots] == EMPTY
            self._digests[slots] = digests
            # Where several wanted the same empty slot one has got it; the others look again.
            placed = self._digests[slots] == digests
            self._held += int(np.count_nonzero(added & placed))
            self._numbers[slots[placed]] = numbers[placed]
            digests, numbers = digests[~placed], numbers[~placed]

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

    def _grow(self, wanted: int) -> None:
        held = self._digests != EMPTY
        digests, numbers = self._digests[held], self._numbers[held]
        capacity = self._digests.size
        while wanted * 3 > capacity * 2:
            capacity *= 2
        self._clear(capacity)
        self._put(digests, numbers)
