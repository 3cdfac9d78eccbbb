"""Counts from CSV: whole blocks of bytes at a time by numpy, and row by row where something is out of the ordinary.

A year of 24 series in windows of a minute is 12.6 million rows, which Python's csv module needs half a minute for. Here
fields are found by their commas, numbers are added up digit by digit, and names and times are looked up by a 64-bit
hash of their bytes, for all rows of a block at once. A block with quotes, blank lines, signs, or any error is read row
by row, which also knows the line of an error.
"""

from __future__ import annotations

import io
from itertools import chain
from typing import IO, TYPE_CHECKING

import numpy as np

from funnelwatch.producers.files.csv_records import CsvRecords
from funnelwatch.schemas.admission import Admitting
from funnelwatch.schemas.count_history import History, by_funnel
from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS
from funnelwatch.schemas.funnels import context_keys, dimensions_of
from funnelwatch.stream.backtest.table import TableError, header, moment, opened, whole, width

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from funnelwatch.schemas.admission import SeriesLimits
    from funnelwatch.schemas.arrays import Indexes, Ints, Words
    from funnelwatch.schemas.funnels import DeclaredFunnels


NEEDED = ("window_start", "funnel", "step", "os", "impressions", "successes")
NUMBERS = ("impressions", "successes")
SESSIONS = ("sessions", "session_successes")
BLOCK = 8_000_000
MOST_WORDS = 16
"""A name of more than so many times 8 bytes is read row by row."""
MOST_DIGITS = 9
COMMA, NEWLINE, RETURN, QUOTE, ZERO = b',\n\r"0'
MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], dtype=np.uint64)
FACTOR = np.uint64(0x9E3779B97F4A7C15)


def read_counts(
    path: Path, declared: DeclaredFunnels, limits: SeriesLimits, told: Callable[[int], None] = lambda rows: None
) -> list[History]:
    """The histories of the funnels in a file, gzip or not; ``told`` is called with the rows read so far.

    A column whose name is a dimension of the row's funnel is one; values beyond a limit count as ``(other)``, as they
    do in a worker that sees the series in the order of the file.

    Raises:
        TableError: an error, with file, line and field.
    """
    with opened(path) as file:
        first = file.readline()
        optional = (*DIMENSION_FIELDS, *context_keys(declared), *SESSIONS)
        columns = header(path, first, NEEDED, [name for name in optional if name not in NEEDED])
        missing = [name for name in SESSIONS if name not in columns]
        if len(missing) == 1:
            raise TableError(
                f"{path}:1: {missing[0]}: this column is missing; right would be both of {', '.join(SESSIONS)}"
            )
        reader = _Reader(path, columns, width(first), Admitting(declared, limits, {}))
        rest = b""
        while True:
            read = file.read(BLOCK)
            block = rest + read
            end = block.rfind(b"\n") + 1 if read else len(block)
            block, rest = block[:end], block[end:]
            if QUOTE in block:
                # A quoted field may go on in the next block.
                rest += file.readline()
                reader.by_row(chain(reader.lines(block + rest), _decoded(path, file)))
                break
            if not read and block and not block.endswith(b"\n"):
                block += b"\n"
            if block and not reader.at_once(block):
                reader.by_row(reader.lines(block))
            told(reader.rows)
            if not read:
                break
    return reader.histories()


class _Reader:
    """The rows read so far."""

    def __init__(self, path: Path, columns: dict[str, int], all_columns: int, admitting: Admitting) -> None:
        self.path = path
        self.all_columns = all_columns
        self.columns = columns
        self.numbers = NUMBERS + (SESSIONS if SESSIONS[0] in columns else ())
        self.width = max(columns.values()) + 1
        self.rows = 0
        self._line = 1
        self._times = _Lookup()
        self._names = _Lookup()
        self._admitting = admitting
        self._series: dict[Series, int] = {}
        self._parts: list[tuple[Ints, Indexes, NDArray[np.uint32]]] = []

    def histories(self) -> list[History]:
        """All rows, by funnel."""
        if not self._parts:
            return []
        starts, places, tallies = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        self._parts.clear()
        return by_funnel(list(self._series), starts, places, tallies)

    def lines(self, block: bytes) -> io.StringIO:
        """The lines of a block as text."""
        try:
            return io.StringIO(block.decode(), newline="")
        except UnicodeDecodeError as error:
            line = self._line + 1 + block.count(b"\n", 0, error.start)
            raise TableError(f"{self.path}:{line}: is not UTF-8 (byte {block[error.start]:#04x})") from None

    def by_row(self, lines: Iterable[str]) -> None:
        """Take in lines with care."""
        records = CsvRecords(lines, line=self._line)
        records.width = self.all_columns
        starts, places, tallies = [], [], []
        for record in records:
            if record.error:
                raise TableError(f"{self.path}:{record.line}: is no line of CSV: {record.error}")
            if not record.values:
                continue
            try:
                start, place, counts = self._row(record.values)
            except ValueError as error:
                raise TableError(f"{self.path}:{record.line}: {error}") from None
            starts.append(start)
            places.append(place)
            tallies.append((*counts[:2], counts[1], *counts[2:]))
        self._line = records.line
        if starts:
            self._add(np.array(starts), np.array(places, dtype=np.intp), np.array(tallies, dtype=np.uint32))

    def _row(self, row: list[str]) -> tuple[int, int, list[int]]:
        """Start, series and numbers of one row; a ValueError names the field."""
        if len(row) < self.width:
            last = max(self.columns, key=self.columns.__getitem__)
            raise ValueError(f"{last}: is missing: the row has {len(row)} fields; right would be one for every column")
        values = {name: row[place] for name, place in self.columns.items()}
        for name in ("funnel", "step"):
            if not values[name]:
                raise ValueError(f"{name}: is empty; right would be its name")
        found = []
        for name in ("window_start", *self.numbers):
            try:
                found.append((moment if name == "window_start" else whole)(values[name]))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        start, *counts = found
        if len(counts) > len(NUMBERS) and counts[3] > counts[2]:
            raise ValueError(f"session_successes: {counts[3]} is more than sessions, {counts[2]}")
        return start, self._place(values), counts

    def _place(self, values: dict[str, str]) -> int:
        """The place of a series."""
        names = dimensions_of(values["funnel"], self._admitting.declared)
        given = {name: values[name] for name in names if name in values}
        series = Series.of(values["funnel"], values["step"], **given)
        counted = self._admitting(series)
        return self._series.setdefault(counted if isinstance(counted, Series) else series, len(self._series))

    def _add(self, starts: Ints, places: Indexes, tallies: NDArray[np.uint32]) -> None:
        self._parts.append((starts, places, tallies))
        self.rows += len(starts)

    def at_once(self, block: bytes) -> bool:
        """Take in a block of lines, or leave it and say so: it must be read row by row."""
        data = np.frombuffer(block, dtype=np.uint8)
        ends = np.flatnonzero(data == NEWLINE)
        commas = np.flatnonzero(data == COMMA)
        width, odd = divmod(len(commas), len(ends))
        if odd or width + 1 < self.width:
            return False
        grid = commas.reshape(len(ends), width)
        begins = np.concatenate([[0], ends[:-1] + 1])
        if ((grid[:, 0] < begins) | (grid[:, -1] > ends)).any():
            return False
        ends = ends - (data[ends - 1] == RETURN)
        fields = {}
        for name, place in self.columns.items():
            begin = begins if place == 0 else grid[:, place - 1] + 1
            fields[name] = begin, (ends if place == width else grid[:, place]) - begin
        counts = [found for name in self.numbers if (found := _numbers(data, *fields[name])) is not None]
        names = {name: field for name, field in fields.items() if name not in {"window_start", *self.numbers}}
        wide = max(int(fields[name][1].max()) for name in ("window_start", *names))
        if len(counts) < len(self.numbers) or wide > 8 * MOST_WORDS:
            return False
        if len(counts) > len(NUMBERS) and (counts[3] > counts[2]).any():
            return False
        words = _words(block)

        def text(name: str, row: int) -> str:
            begin, size = fields[name]
            return block[begin[row] : begin[row] + size[row]].decode()

        try:
            starts = self._times.find(
                _hash(words, [fields["window_start"]]), lambda row: moment(text("window_start", row))
            )
            places = self._names.find(
                _hash(words, list(names.values())), lambda row: self._named({name: text(name, row) for name in names})
            )
        except ValueError:
            return False
        self._add(starts, places, np.stack([*counts[:2], counts[1], *counts[2:]], axis=1))
        self._line += len(ends)
        return True

    def _named(self, values: dict[str, str]) -> int:
        """The place of a series whose funnel and step have names."""
        if not values["funnel"] or not values["step"]:
            raise ValueError("no name")
        return self._place(values)


class _Lookup:
    """A number for each hash, made when the hash is new."""

    def __init__(self) -> None:
        self._keys = np.zeros(0, dtype=np.uint64)
        self._values = np.zeros(0, dtype=np.int64)

    def find(self, keys: Words, make: Callable[[int], int]) -> Ints:
        """The numbers of ``keys``; ``make`` is asked for that of the row in which a new one stands."""
        firsts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        runs = keys[firsts]
        if self._keys.size:
            at = np.minimum(np.searchsorted(self._keys, runs), self._keys.size - 1)
            fresh = firsts[self._keys[at] != runs]
        else:
            fresh = firsts
        if fresh.size:
            new, where = np.unique(keys[fresh], return_index=True)
            order = np.argsort(where)
            values = np.empty(len(new), dtype=np.int64)
            values[order] = [make(int(fresh[row])) for row in where[order]]
            together = np.concatenate([self._keys, new])
            order = np.argsort(together)
            self._keys, self._values = together[order], np.concatenate([self._values, values])[order]
        found = self._values[np.searchsorted(self._keys, runs)]
        return np.repeat(found, np.diff(np.append(firsts, len(keys))))


def _numbers(data: NDArray[np.uint8], begin: Indexes, size: Indexes) -> NDArray[np.uint32] | None:
    """Numbers written in plain digits; None where one is not."""
    longest = int(size.max())
    if size.min() < 1 or longest > MOST_DIGITS:
        return None
    total = np.zeros(len(begin), dtype=np.uint32)
    last = begin + size - 1
    for place in range(longest):
        digits = data[np.maximum(last - place, 0)].astype(np.uint32) - ZERO
        if place:
            digits = np.where(size > place, digits, 0)
        if (digits > 9).any():  # noqa: PLR2004
            return None
        total += digits * np.uint32(10**place)
    return total


def _words(block: bytes) -> Words:
    """The 8 bytes from every place of the block on, as a number."""
    padded = block + bytes(8 * MOST_WORDS)
    return np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))


def _hash(words: Words, fields: list[tuple[Indexes, Indexes]]) -> Words:
    """A hash of the bytes of some fields of every row."""
    total = np.zeros(len(fields[0][0]), dtype=np.uint64)
    for begin, size in fields:
        total = (total ^ size.astype(np.uint64)) * FACTOR
        for word in range(-(-int(size.max()) // 8)):
            part = words[begin + 8 * word] & MASKS[np.clip(size - 8 * word, 0, 8)]
            total = (total ^ part) * FACTOR
            total ^= total >> np.uint64(29)
    return total


def _decoded(path: Path, file: IO[bytes]) -> Iterable[str]:
    """The lines that are left of a file."""
    for line in file:
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise TableError(f"{path}: is not UTF-8: {error}") from None
