"""A hash table of numbers by digest, queried with a whole array at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from funnelwatch.schemas.arrays import Flags, Ints, Words

SMALLEST = 1 << 10
QUICKLY = 1 << 20
"""A table grows by fours up to about this size, then by twos: to grow is to put everything anew."""

EMPTY = np.uint64(0)


class HashTable:
    """Digests, each with a number; open addressing with linear probing, at most half full.

    A digest is itself the place where it is looked for first, so its bits must be as good as random ones. The digest 0
    stands for an empty slot; it is kept as a 1.
    """

    def __init__(self) -> None:
        self._clear(SMALLEST)

    def _clear(self, capacity: int) -> None:
        self._mask = np.uint64(capacity - 1)
        # Side by side, so that both come into the processor's cache at once.
        table = np.zeros((capacity, 2), np.uint64)
        self._digests: Words = table[:, 0]
        self._numbers: Ints = table[:, 1].view(np.int64)
        self._held = 0

    def __len__(self) -> int:
        """How many digests there are."""
        return self._held

    def get(self, digests: Words, default: int) -> Ints:
        """The number of each digest."""
        return self.look_up(digests, default)[1]

    def look_up(self, digests: Words, default: int) -> tuple[Words, Ints]:
        """Where each digest is, or would be put, and its number."""
        slots, found = self._find(np.maximum(digests, np.uint64(1)))
        numbers = self._numbers[slots] if found.any() else np.full(digests.size, default)
        numbers[~found] = default
        return slots, numbers

    def put(self, digests: Words, numbers: Ints, slots: Words | None = None) -> None:
        """Set the number of each digest; of one that stands there twice to either number.

        Args:
            digests: of any size.
            numbers: as many.
            slots: what ``look_up`` has said of them, where nothing was put or reserved since.
        """
        digests = np.maximum(digests, np.uint64(1))
        if slots is None:
            self.reserve(digests.size)
            slots, _ = self._find(digests)
        while digests.size:
            # Where several want the same slot one gets it; the others have to look again.
            # Each writes its own index into the slot it wants; the one whose index is still there has got the slot.
            marks = np.arange(digests.size)
            self._numbers[slots] = marks
            lost = self._numbers[slots] != marks
            others, more = digests[lost], numbers[lost]
            if others.size:
                slots, digests, numbers = slots[~lost], digests[~lost], numbers[~lost]
            self._held += int(np.count_nonzero(self._digests[slots] == EMPTY))
            self._digests[slots] = digests
            self._numbers[slots] = numbers
            digests, numbers = others, more
            slots, _ = self._find(digests)

    def reserve(self, more: int) -> None:
        """Make room for so many more digests."""
        wanted, capacity = self._held + more, self._digests.size
        if wanted * 2 <= capacity:
            return
        while wanted * 2 > capacity:
            capacity *= 4 if capacity < QUICKLY else 2
        held = self._digests != EMPTY
        digests, numbers = self._digests[held], self._numbers[held]
        self._clear(capacity)
        self.put(digests, numbers, self._find(digests)[0])

    def _find(self, digests: Words) -> tuple[Words, Flags]:
        """Where each digest is, or the empty slot where it would be put; and whether it is there."""
        slots = digests & self._mask
        there = self._digests[slots]
        found = there == digests
        # At half load a second probe is needed by few, so each round works on a much shorter array.
        going = np.flatnonzero(~found & (there != EMPTY))
        while going.size:
            wanted = digests[going]
            further = slots[going] + np.uint64(1) & self._mask
            slots[going] = further
            there = self._digests[further]
            same = there == wanted
            found[going] = same
            going = going[~same & (there != EMPTY)]
        return slots, found
