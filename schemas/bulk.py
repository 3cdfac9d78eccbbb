"""Many records at once: columns of whole batches, read by numpy instead of record by record.

A reader that is sure of what it reads and passes over the rest: where a value is not plainly one of the writer's
records it has no row in the columns, and whoever asked decodes that value by itself (``funnelwatch.schemas.codec``): it
says what is wrong or takes it after all. So this knows no errors, and what it does return is what the decoder would.

Fields are read one after the other, each of all records at once (``funnelwatch.schemas.page``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from funnelwatch.schemas.arrays import Flags, Ints, Words
from funnelwatch.schemas.codec import CONFLUENT_HEADER, SINGLE_OBJECT, SINGLE_OBJECT_HEADER, Undecodable
from funnelwatch.schemas.page import Page, Text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from funnelwatch.schemas.codec import Decoder

NONE = int(np.iinfo(np.int64).min)
"""Stands for null in a column of numbers; no varint that is read here is as small."""

AT_ONCE = 25_000
"""Values that are decoded together: enough for numpy to be quick, few enough for the processor's cache."""

PAIR = 2
"""Branches of a union that makes a field nullable."""

WRITERS_AT_ONCE = 8
"""Records of more writers than this in one batch are decoded one by one."""


@dataclass(slots=True)
class Columns:
    """Records of one writer, by column; ``rows`` says which of the values they are.

    Attributes:
        page: where the strings are.
        rows: index of each record among the values that were given.
        sizes: bytes of each value.
        texts: the strings, by field.
        numbers: longs, and the indexes of enum symbols in the reader's schema; ``NONE`` for null.
    """

    page: Page
    rows: Ints
    sizes: Ints
    texts: dict[str, Text] = field(default_factory=dict)
    numbers: dict[str, Ints] = field(default_factory=dict)

    def text(self, name: str, at: int) -> str:
        """One string of a column."""
        column = self.texts[name]
        start = int(column.starts[at])
        return self.page.buffer[start : start + int(column.lengths[at])].decode()

    def sums(self, name: str) -> Words:
        """The hashes of a column of strings; it must be one of which they were asked for."""
        sums = self.texts[name].sums
        assert sums is not None
        return sums

    def keep(self, kept: Flags) -> None:
        """Leave out the records that are not among these."""
        if kept.all():
            return
        self.rows, self.sizes = self.rows[kept], self.sizes[kept]
        self.texts = {name: one.where(kept) for name, one in self.texts.items()}
        self.numbers = {name: one[kept] for name, one in self.numbers.items()}


class BulkDecoder:
    """Decodes what it can of a batch; thread-safe.

    Args:
        decoder: knows the reader's schema, and whose schema a value's header names.
        hashed: the fields of strings whose hashes are wanted.
        keys: the keys of maps whose values are wanted, as columns with the names of the keys.
    """

    def __init__(self, decoder: Decoder, hashed: Collection[str], keys: Sequence[str] = ()) -> None:
        self._decoder = decoder
        self._hashed = hashed
        self._keys = keys
        self._plans: dict[bytes, Plan | None] = {}
        fields = decoder.reader["fields"]
        self._defaults = "".join(one.get("default", "") for one in fields if one["type"] == "string").encode()

    def __call__(self, values: Sequence[bytes | None]) -> Iterator[Columns]:
        """Columns of the values, some at a time, for one writer after the other; values without a row are not decoded.

        Raises:
            RegistryUnavailable: a writer's schema could not be looked up now.
        """
        for begin in range(0, len(values), AT_ONCE):
            for columns in self._decode(values[begin : begin + AT_ONCE]):
                columns.rows += begin
                yield columns

    def _decode(self, values: Sequence[bytes | None]) -> Iterator[Columns]:
        present = cast("Sequence[bytes]", values)
        try:
            page = Page(present, self._defaults)
        except TypeError:  # some are None; to look for that beforehand would take longer
            present = [value or b"" for value in values]
            page = Page(present, self._defaults)
        lengths = np.fromiter(map(len, present), np.int64, len(present))
        ends = np.cumsum(lengths)
        starts = ends - lengths
        left = np.flatnonzero(lengths >= CONFLUENT_HEADER)
        for _ in range(WRITERS_AT_ONCE):
            if not left.size:
                return
            start = int(starts[left[0]])
            header = page.buffer[start : start + _header_size(page.buffer, start)]
            same = page.begins_with(starts[left], header) & (lengths[left] >= len(header))
            rows, left = left[same], left[~same]
            plan = self._plan(header) if rows.size else None
            if plan is not None:
                columns = plan(Columns(page, rows, lengths[rows]), starts[rows] + len(header), ends[rows])
                if columns.rows.size:
                    yield columns
            if not rows.size:
                left = left[1:]

    def _plan(self, header: bytes) -> Plan | None:
        if header not in self._plans:
            try:
                writer = self._decoder.writer(header)
            except Undecodable:
                return None  # not remembered: the registry may know it later
            self._plans[header] = plan_for(writer, self._decoder.reader, self._hashed, self._keys)
        return self._plans[header]


def _header_size(buffer: bytes, start: int) -> int:
    return SINGLE_OBJECT_HEADER if buffer[start : start + 2] == SINGLE_OBJECT else CONFLUENT_HEADER


Step = Callable[[Columns, Ints, Flags], Ints]
"""Reads a field of each record from a position on into the columns; returns where it ends."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to read the records of one writer: a step for each of its fields, and what it does not write."""

    steps: Sequence[Step]
    absent: Mapping[str, int | str]

    def __call__(self, columns: Columns, at: Ints, ends: Ints) -> Columns:
        """Fill the columns with the records whose bodies are ``[at, ends)``, leaving out what is not plainly one."""
        count = columns.rows.size
        good = np.ones(count, np.bool_)
        for step in self.steps:
            at = step(columns, at, good)
        good &= at == ends
        for name, value in self.absent.items():
            if isinstance(value, str):
                columns.texts[name] = columns.page.constant(value, count)
            else:
                columns.numbers[name] = np.full(count, value)
        columns.keep(good)
        return columns


def plan_for(writer: Any, reader: Mapping[str, Any], hashed: Collection[str], keys: Sequence[str] = ()) -> Plan | None:
    """How to read a writer's records in bulk; None where that takes more than is known here.

    Args:
        writer: its schema.
        reader: ours.
        hashed: the fields of strings whose hashes are wanted.
        keys: the keys of maps whose values are wanted.
    """
    if not isinstance(writer, dict) or writer.get("type") != "record" or writer["name"] != reader["name"]:
        return None
    named = writer.get("__named_schemas", {})
    wanted = {one["name"]: one for one in reader["fields"]}
    steps = []
    for one in writer["fields"]:
        own = wanted.pop(one["name"], None)
        written = _resolved(one["type"], named)
        step = _step(one["name"], written, written if own is None else own["type"], hashed, () if own is None else keys)
        if step is None:
            return None
        steps.append(step)
    absent: dict[str, int | str] = {}
    for name, one in wanted.items():
        if "default" not in one or "aliases" in one:
            return None
        default, kind = one["default"], one["type"]
        if kind in ("string", "long"):
            absent[name] = default
        elif isinstance(kind, list) and default is None:
            absent[name] = NONE
        elif _is_map(kind):
            absent |= dict.fromkeys(keys, "")
        else:
            return None
    return Plan(steps, absent)


def _resolved(kind: Any, named: Mapping[str, Any]) -> Any:
    """A type, or the branches of a union, with the schema in the place of a name."""
    if isinstance(kind, list):
        return [_resolved(branch, named) for branch in kind]
    return named.get(kind, kind) if isinstance(kind, str) else kind


def _step(name: str, written: Any, read: Any, hashed: Collection[str], keys: Sequence[str]) -> Step | None:
    if written == "string" == read:
        return partial(_text if name in hashed else _unhashed, name)
    if written == "long" == read:
        return partial(_long, name)
    if _is_map(written) and _is_map(read):
        return partial(_map, {key: key.encode() for key in keys})
    symbols = _symbols(written, read)
    if symbols is not None:
        return partial(_enum, name, symbols)
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read) == PAIR:
        plain = written[0] == "null" == read[0] and written[1] != "string" and not _is_map(written[1])
        inner = _step(name, written[1], read[1], hashed, ()) if plain else None
        if inner is not None:
            return partial(_nullable, name, inner)
    return None


def _symbols(written: Any, read: Any) -> Ints | None:
    """The reader's index of each of the writer's symbols, where both are one enum; -1 for one that is new."""
    both = (written, read)
    if any(not isinstance(one, dict) or one["type"] != "enum" for one in both) or written["name"] != read["name"]:
        return None
    known = {symbol: index for index, symbol in enumerate(read["symbols"])}
    indexes = np.full(128, -1)
    indexes[: len(written["symbols"])] = [known.get(symbol, -1) for symbol in written["symbols"][:128]]
    return indexes


def _is_map(kind: Any) -> bool:
    return isinstance(kind, dict) and kind["type"] == "map" and kind["values"] == "string"


def _text(name: str, columns: Columns, at: Ints, good: Flags) -> Ints:
    starts, lengths, ends = columns.page.text(at, good)
    columns.texts[name] = Text(starts, lengths, columns.page.sums(starts, lengths, good))
    return ends


def _unhashed(name: str, columns: Columns, at: Ints, good: Flags) -> Ints:
    starts, lengths, ends = columns.page.text(at, good)
    columns.page.check(starts, lengths, good)
    columns.texts[name] = Text(starts, lengths, None)
    return ends


def _long(name: str, columns: Columns, at: Ints, good: Flags) -> Ints:
    columns.numbers[name], ends = columns.page.long(at, good)
    return ends


def _map(keys: Mapping[str, bytes], columns: Columns, at: Ints, good: Flags) -> Ints:
    values, ends = columns.page.map(at, good, list(keys.values()))
    for name, (starts, lengths) in zip(keys, values, strict=True):
        columns.texts[name] = Text(starts, lengths, columns.page.sums(starts, lengths, good))
    return ends


def _enum(name: str, symbols: Ints, columns: Columns, at: Ints, good: Flags) -> Ints:
    index, ends = columns.page.small(at, good)
    columns.numbers[name] = symbols[index]
    good &= columns.numbers[name] >= 0
    return ends


def _nullable(name: str, inner: Step, columns: Columns, at: Ints, good: Flags) -> Ints:
    branch, ends = columns.page.small(at, good)
    good &= branch <= 1
    rows = np.flatnonzero(branch)
    some, fine = Columns(columns.page, rows, rows), good[rows]
    ends[rows] = inner(some, ends[rows], fine)
    good[rows] = fine
    columns.numbers[name] = np.full(at.size, NONE)
    columns.numbers[name][rows] = some.numbers[name]
    return ends
