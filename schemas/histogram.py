"""Histograms of durations that merge exactly: log-linear slots with fixed borders, merged by adding counts.

Slots 0 to 7 hold the values 0 to 7, one each. From 8 on, each power of two is divided into four slots of equal width:
the bit length of an integer gives its power, and the two bits after the first one its slot. A slot is at most a quarter
as wide as its lower border. The layout is that of HdrHistogram (Tene, hdrhistogram.org) with two bits. The last slot
also holds every value beyond its lower border, 2**31 ms and more (24 days).

A quantile is taken by rank: in proportion within the slot that has the rank, but never farther than an eighth from any
value of that slot (SQL: ``duration_quantile``). So the answer is at most 12.5 % off after any merge.

Prometheus gets coarser *buckets*, each twice as wide as the one before, whose borders are borders of slots as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from funnelwatch.schemas.arrays import Ints

SLOTS = 120
"""The number of slots; columns ``d0`` to ``d119`` in the database."""

_EXACT = 8
_BITS = 2

LARGEST = 2**31 - 1
"""The largest value with a slot of its own magnitude."""

FIRST_BORDER_BITS, BUCKETS = 7, 16
"""The first bucket holds the values below ``2**7``, each next one twice as many; the last one holds all others."""


def slots_of(values: Ints) -> Ints:
    """The slot of each value; values are not negative and less than ``2**53``."""
    values = np.minimum(values, LARGEST)
    shifts = np.maximum(np.frexp(values.astype(np.float64))[1].astype(np.int64) - _BITS - 1, 0)
    return np.where(values < _EXACT, values, (shifts << _BITS) + (values >> shifts))


def bounds(slot: int) -> tuple[int, int]:
    """The values ``[lower, upper)`` of a slot."""
    if slot < _EXACT:
        return slot, slot + 1
    shift, place = divmod(slot - 4, 4)
    return 4 + place << shift, 5 + place << shift


def buckets_of(slots: Ints) -> Ints:
    """The bucket that holds each slot."""
    return np.clip((slots - 4) // 4 + _BITS + 1 - FIRST_BORDER_BITS, 0, BUCKETS - 1)


MIDDLES: Ints = np.array([(lower + upper - 1) // 2 for lower, upper in map(bounds, range(SLOTS))], np.int64)
"""The middle of the whole numbers of each slot: at most 12.5 % off, whatever is in it."""
