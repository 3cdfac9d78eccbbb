"""Rows in the binary format of PostgreSQL, as far as no server is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pytest

from funnelwatch.sinks.timescale.composites import INT4, INT8, Composites, encode

if TYPE_CHECKING:
    from funnelwatch.schemas.arrays import Ints

NONE: Ints = np.zeros(0, np.int64)


def rows(kind: int, value: int, cell: int) -> Composites:
    """One row of a number that is never null, and one that may be."""
    one, first = np.array([cell], np.int64), np.zeros(1, np.int64)
    return encode(1, [(kind, np.array([value], np.int64))], (kind, 1), (first, first, one))


@pytest.mark.parametrize(("value", "cell"), [(2**31, 0), (-(2**31) - 1, 0), (0, 2**31), (0, -(2**31) - 1)])
def test_a_number_that_does_not_fit_is_an_error_and_never_cut_off(value: int, cell: int) -> None:
    """Whether its column may be null or not; a bigint has room for it."""
    with pytest.raises(psycopg.errors.NumericValueOutOfRange, match="out of range for type integer"):
        rows(INT4, value, cell)
    assert rows(INT8, value, cell).binary


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31)])
def test_the_largest_and_the_smallest_integer_fit(value: int) -> None:
    """They stand there big-endian, each with its type and length before it."""
    number = value.to_bytes(4, "big", signed=True)
    head = (23).to_bytes(4, "big") + (4).to_bytes(4, "big")
    assert rows(INT4, value, value).binary.endswith((head + number) * 2)


def test_a_column_without_a_value_is_null() -> None:
    """Its length is -1 and nothing follows."""
    made = encode(1, [(INT4, np.array([5], np.int64))], (INT4, 2), (NONE, NONE, NONE)).binary
    assert made.endswith((b"\0\0\0\x17" + b"\xff" * 4) * 2)
