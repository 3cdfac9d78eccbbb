"""Arrays of rows in PostgreSQL's binary format, to and from numpy: no Python object for a row.

A statement takes such an array as ``unnest(%(rows)b::TABLE[])``. The format is that of the functions ``array_recv`` and
``record_recv``; the result of ``string_agg(record_send(row), '')`` has rows of the same form (PostgreSQL's source:
``src/backend/utils/adt/arrayfuncs.c`` and ``rowtypes.c``). All numbers are big-endian::

    array  = 1 int32 (dimensions), 0 int32 (nulls), type of the rows int32, number of rows int32, 1 int32, row*
    row    = length int32, record
    record = number of columns int32, column*
    column = type int32, length int32 (-1: null, and nothing follows), value
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import psycopg
from psycopg.pq import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Cursor

    from funnelwatch.schemas.arrays import Ints
    from funnelwatch.sinks.timescale.database import Row

INT4, INT8, TIME = 23, 20, 1184
"""Types by their number in PostgreSQL: integer, bigint, timestamptz."""

WIDTH: Final = {INT4: 4, INT8: 8, TIME: 8}

YEAR_2000_MS = 946_684_800_000
"""PostgreSQL counts time in microseconds from here."""


class Composites(NamedTuple):
    """An array of rows in the binary format, as a parameter ``%(name)b``."""

    binary: bytes


class _Dumper(psycopg.adapt.Dumper):
    format = Format.BINARY

    def dump(self, obj: Composites) -> bytes:
        return obj.binary


psycopg.adapters.register_dumper(Composites, _Dumper)


def type_number(cursor: Cursor[Row], table: str) -> int:
    """The number of the type that the rows of a table have."""
    found = cursor.execute("SELECT %s::regtype::oid::bigint AS number", [table]).fetchone()
    assert found is not None
    number: int = found["number"]
    return number


def encode(
    number: int, columns: Sequence[tuple[int, Ints]], optional: tuple[int, int], cells: tuple[Ints, Ints, Ints]
) -> Composites:
    """Rows as a parameter.

    Args:
        number: of the type of the rows (``type_number``).
        columns: type and values of each column that is never null; times in ms.
        optional: type and number of the columns that follow.
        cells: row, column from 0 on, and value of each of those that is not null; sorted by row and column.

    Raises:
        NumericValueOutOfRange: a value does not fit its type: no number is stored cut off.
    """
    for of, values in (*columns, (optional[0], cells[2])):
        if of == INT4 and values.size and max(-int(values.min()) - 1, int(values.max())) >= 2**31:
            raise psycopg.errors.NumericValueOutOfRange(f"{np.abs(values).max()} is out of range for type integer")
    rows = len(columns[0][1])
    kind, many = optional
    header = [("length", ">i4"), ("columns", ">i4")]
    for at, (of, _) in enumerate(columns):
        header += [(f"type{at}", ">i4"), (f"length{at}", ">i4"), (f"value{at}", f">i{WIDTH[of]}")]
    null = np.dtype([("type", ">i4"), ("length", ">i4")])
    record = np.zeros(rows, np.dtype([*header, ("optional", null, (many,))]))
    cell_rows, cell_columns, values = cells
    used = np.bincount(cell_rows, minlength=rows)
    record["length"] = record.dtype.itemsize - 4 + used * WIDTH[kind]
    record["columns"] = len(columns) + many
    for at, (of, column) in enumerate(columns):
        record[f"type{at}"], record[f"length{at}"] = of, WIDTH[of]
        record[f"value{at}"] = (column - YEAR_2000_MS) * 1000 if of == TIME else column
    record["optional"]["type"], record["optional"]["length"] = kind, -1
    record["optional"]["length"][cell_rows, cell_columns] = WIDTH[kind]
    flat = record.view(np.uint8).reshape(-1)
    # The value of a cell stands behind its length; everything else moves on by as much.
    behind = (
        cell_rows * record.dtype.itemsize
        + (record.dtype.itemsize - many * null.itemsize)
        + (cell_columns + 1) * null.itemsize
    )
    data = np.ascontiguousarray(values, f">i{WIDTH[kind]}").view(np.uint8).reshape(-1)
    body = np.insert(flat, np.repeat(behind, WIDTH[kind]), data) if values.size else flat
    return Composites(struct.pack(">5i", 1, 0, number, rows, 1) + body.tobytes())


def decode(packed: bytes | None, columns: Sequence[tuple[str, int]]) -> dict[str, Ints]:
    """The columns of ``string_agg(record_send(row), '')``, none of them null; times in ms.

    Args:
        packed: the rows; None: there are none.
        columns: name and type of each, in order.
    """
    fields: list[Any] = [("columns", ">i4")]
    for name, of in columns:
        fields += [(f"type {name}", ">i4"), (f"length {name}", ">i4"), (name, f">i{WIDTH[of]}")]
    records = np.frombuffer(packed or b"", np.dtype(fields))
    found = {name: records[name].astype(np.int64) for name, _ in columns}
    for name, of in columns:
        if of == TIME:
            found[name] = found[name] // 1000 + YEAR_2000_MS
    return found
