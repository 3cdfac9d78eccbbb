"""Digests of strings, by which events are told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.stream.native.library import native

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.schemas.arrays import Words


def digests_of(strings: Sequence[str]) -> Words:
    """64-bit digests of some strings: in this process always the same for the same string."""
    encoded = [one.encode() for one in strings]
    ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
    digests = np.empty(ends.size, np.uint64)
    native().fw_digests(ends.size, b"".join(encoded), ends.ctypes.data, digests.ctypes.data)
    return digests
