"""Rows of JSON Lines and CSV files, plain or gzip, a line at a time: a file of any size takes little memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from producers.mapper import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

GZIP_MAGIC = b"\x1f\x8b"
MAX_LINE = 4_000_000
"""A longer line is refused, bytes: Kafka takes no such event either, and a file without line ends must not fill the
memory."""

CSV_SUFFIXES = {".csv", ".tsv"}
JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}


class UnreadableFile(Exception):  # noqa: N818 - what it is
    """A file cannot be read (further); the message names it and says why."""


class Row(NamedTuple):
    """A row, or why there is none.

    Attributes:
        line: its number in the file, from 1.
        values: what it has, by column; None where it is refused.
        refused: why it is no row.
    """

    line: int
    values: dict[str, Any] | None
    refused: Refused | None = None


class InputFile:
    """One file that is being read.

    Attributes:
        name: for messages.
        size: bytes on disk, for progress; None where it is unknown.
    """

    def __init__(self, name: str, raw: IO[bytes], size: int | None) -> None:
        self.name = name
        self.size = size
        self._raw = _Counting(raw)
        buffered = io.BufferedReader(self._raw)
        zipped = buffered.peek(2)[:2] == GZIP_MAGIC
        self._data = io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=buffered))) if zipped else buffered
        suffixes = {suffix.lower() for suffix in Path(name).suffixes}
        self._comma = "\t" if ".tsv" in suffixes else ","
        try:
            self._is_csv = not suffixes & JSON_SUFFIXES and (
                bool(suffixes & CSV_SUFFIXES) or self._data.peek(64).lstrip()[:1] not in (b"{", b"")
            )
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableFile(f"{name}: {error}") from error

    @property
    def read_bytes(self) -> int:
        """How much of the file on disk has been read."""
        return self._raw.count

    def rows(self) -> Iterator[Row]:
        """The rows, in order.

        Raises:
            UnreadableFile: the file ends in the middle (gzip), or the disk fails; the rows before it were yielded.
        """
        try:
            yield from self._csv_rows() if self._is_csv else self._json_rows()
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableFile(f"{self.name}: {error}") from error

    def _json_rows(self) -> Iterator[Row]:
        number = 0
        while line := self._data.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                while line and not line.endswith(b"\n"):
                    line = self._data.readline(MAX_LINE)
                yield Row(number, None, Refused("TOO_LONG", f"longer than {MAX_LINE} bytes"))
            elif line.strip():
                yield _json_row(number, line)

    def _csv_rows(self) -> Iterator[Row]:
        csv.field_size_limit(MAX_LINE)
        # Bytes that are no UTF-8 become lone surrogates: the encoder refuses the row, not the whole file.
        text = io.TextIOWrapper(self._data, encoding="utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.reader(text, delimiter=self._comma)
        try:
            names = next(reader, None)
        except csv.Error as error:
            raise UnreadableFile(f"{self.name}: its first line is no CSV header: {error}") from error
        if names is None:
            return
        while True:
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(reader.line_num, None, Refused("NO_CSV", str(error)))
                continue
            if len(values) == len(names):
                yield Row(reader.line_num, dict(zip(names, values, strict=True)))
            elif values:
                fault = f"{len(values)} values for {len(names)} columns"
                yield Row(reader.line_num, None, Refused("NO_CSV", fault))


@contextmanager
def open_input(path: str) -> Iterator[InputFile]:
    """A file, or stdin for ``-``.

    Raises:
        UnreadableFile: it cannot be opened.
    """
    if path == "-":
        yield InputFile("-", sys.stdin.buffer, None)
        return
    try:
        raw = Path(path).open("rb")  # noqa: SIM115 - closed below; an error of the body is no error of opening
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror}") from error
    with raw:
        yield InputFile(path, raw, Path(path).stat().st_size)


def _json_row(number: int, line: bytes) -> Row:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Row(number, None, Refused("NO_JSON", str(error)))
    if not isinstance(values, dict):
        return Row(number, None, Refused("NO_JSON", "is no JSON object"))
    return Row(number, values)


class _Counting(io.RawIOBase):
    """Bytes of a stream, counted as they are read."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = (
            self._raw.read1(len(buffer)) if isinstance(self._raw, io.BufferedReader) else self._raw.read(len(buffer))
        )
        buffer[: len(chunk)] = chunk
        self.count += len(chunk)
        return len(chunk)
