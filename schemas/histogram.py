"""Histograms of durations that merge exactly: log-linear buckets with fixed borders, merged by adding counts.

An *octave* is a row of eight *slots*. Octave 0 has the values 0 to 7, one a slot; octave k > 0 has the values from
``8 << (k - 1)`` up to twice that, in eight slots of equal width. The bit length of an integer gives its octave, and
the three bits after the first one its slot; a bucket is at most an eighth as wide as its lower border, and
values below 16 are kept exactly. The layout is that of HdrHistogram (Tene, hdrhistogram.org; three bits); the buckets
of Prometheus' native histograms (schema 3) and of DDSketch (Masson, Rim & Lee 2019) are of much the same width.

A quantile is taken by rank: in proportion between the first and the last integer of the bucket that has the rank (SQL:
``duration_quantile``). The value of that rank lies in the same bucket, so the answer is less than 12.5 % off after any
merge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from funnelwatch.schemas.arrays import Ints

SLOTS = 8
_BITS = 3


def buckets(values: Ints) -> tuple[Ints, Ints]:
    """Octaves and slots of values, which are not negative and less than ``2**53``."""
    octaves = np.maximum(np.frexp(values.astype(np.float64))[1].astype(np.int64) - _BITS, 0)
    return octaves, values >> np.maximum(octaves - 1, 0) & SLOTS - 1


def bounds(octave: int, slot: int) -> tuple[int, int]:
    """The values ``[lower, upper)`` of a bucket."""
    if octave == 0:
        return slot, slot + 1
    return SLOTS + slot << octave - 1, SLOTS + slot + 1 << octave - 1
