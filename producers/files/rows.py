"""Rows of JSON Lines and CSV files, plain or gzip, line by line: a file of any size takes little memory."""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from funnelwatch.producers.files.csv_records import NEVER_CLOSED, CsvRecords
from funnelwatch.producers.files.mapper import Rejected
from funnelwatch.schemas.errors import FunnelwatchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GZIP_MAGIC = b"\x1f\x8b"
MAX_LINE = 4_000_000
"""Bytes of a line, at most: Kafka accepts no larger event, and a file without line ends must not fill the memory."""

CSV_SUFFIXES = {".csv", ".tsv"}
JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}
BOM = b"\xef\xbb\xbf"
HEAD_BYTES = 4_096
DELIMITERS = (",", "\t", ";", "|")
OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive or a workbook; right would be plain or gzip: unzip -p FILE, or save it as CSV",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; right would be plain or gzip: zstdcat FILE | funnelwatch produce -",
    b"BZh": "compressed with bzip2; right would be plain or gzip: bzcat FILE | funnelwatch produce -",
    b"\xfd7zXZ": "compressed with xz; right would be plain or gzip: xzcat FILE | funnelwatch produce -",
    b"PAR1": "Parquet; right would be CSV or JSON Lines",
    b"Obj\x01": "an Avro file; right would be CSV or JSON Lines",
    b"SQLite format 3": "a database; right would be CSV or JSON Lines",
    GZIP_MAGIC: "gzip within gzip; right would be gzip once: zcat FILE | funnelwatch produce -",
    b"\xff\xfe\0\0": "UTF-32; right would be UTF-8: iconv -f UTF-32 -t UTF-8 FILE",
    b"\xff\xfe": "UTF-16; right would be UTF-8: iconv -f UTF-16 -t UTF-8 FILE",
    b"\xfe\xff": "UTF-16; right would be UTF-8: iconv -f UTF-16 -t UTF-8 FILE",
    b"\0\0\xfe\xff": "UTF-32; right would be UTF-8: iconv -f UTF-32 -t UTF-8 FILE",
}
"""Formats by their first bytes, and the remedy."""
SEPARATOR = re.compile(r"sep=.", re.IGNORECASE)
"""A first line by which Excel declares the delimiter."""
UNDECODED = re.compile("[\udc80-\udcff]")
"""The replacements of bytes that are not UTF-8."""
NO_UTF8 = "right would be UTF-8: iconv -f LATIN1 -t UTF-8 FILE"


class UnreadableFile(FunnelwatchError):  # noqa: N818 - what it is
    """A file cannot be read to its end; the message names it and the reason."""


class Row(NamedTuple):
    """A row, or the reason of its rejection.

    Attributes:
        line: its number in the file, from 1.
        values: its values by column; None where it is rejected.
        rejected: the reason of its rejection.
    """

    line: int
    values: dict[str, Any] | None
    rejected: Rejected | None = None


class InputFile:
    """An open file.

    Attributes:
        name: for messages.
        size: bytes on disk, for progress; None where it is unknown.
        note: a remark where no row is rejected, such as that there are no rows.

    Raises:
        UnreadableFile: the format is not supported; the message has the remedy.
    """

    def __init__(self, name: str, raw: IO[bytes], size: int | None) -> None:
        self.name = name
        self.size = size
        self.note: str | None = None
        self._raw = data = _Headed(raw)
        try:
            if data.head()[:2] == GZIP_MAGIC:
                data = _Headed(cast("IO[bytes]", gzip.GzipFile(fileobj=io.BufferedReader(data))))
            head = data.head()
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableFile(f"{name}: {error}") from error
        _check_format(name, head, packed=data is not self._raw)
        suffixes = {suffix.lower() for suffix in Path(name).suffixes}
        self._tabs = ".tsv" in suffixes
        text = head.lstrip(BOM + b" \t\r\n")
        self._is_csv = not suffixes & JSON_SUFFIXES and (
            bool(suffixes & CSV_SUFFIXES) or text[:1] not in (b"{", b"[", b"")
        )
        if not self._is_csv and b"\r" in head.rstrip(b"\r") and b"\n" not in head:
            data.carriage_returns = True
        self._data = io.BufferedReader(data)

    @property
    def read_bytes(self) -> int:
        """Bytes of the file on disk that have been read."""
        return self._raw.count

    def rows(self) -> Iterator[Row]:
        """The rows, in order.

        Raises:
            UnreadableFile: the file ends in the middle (gzip), or the disk fails; the rows before it were yielded. Or
                it is neither CSV nor JSON Lines from its first row on.
        """
        count = 0
        try:
            for row in self._csv_rows() if self._is_csv else self._json_rows():
                count += 1
                yield row
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableFile(f"{self.name}: {error}") from error
        empty = self.note or f"{self.name}: is empty"
        self.note = None if count else empty

    def _json_rows(self) -> Iterator[Row]:
        number, first = 0, True
        while line := self._data.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                while line and not line.endswith(b"\n"):
                    line = self._data.readline(MAX_LINE)
                yield Row(number, None, Rejected("TOO_LONG", f"longer than {MAX_LINE} bytes"))
                continue
            line = line.removeprefix(BOM) if number == 1 else line
            if line.strip():
                if first:
                    self._check_json(number, line)
                first = False
                yield _json_row(number, line)

    def _check_json(self, number: int, line: bytes) -> None:
        """Reject a file that is one JSON value over many lines."""
        text = line.strip()
        if text.startswith(b"["):
            what = "is a JSON array; right would be JSON Lines, an object a line: jq -c '.[]' FILE"
            raise UnreadableFile(f"{self.name}:{number}: {what}")
        if text == b"{":
            what = "begins a JSON object of many lines; right would be JSON Lines, an object a line: jq -c . FILE"
            raise UnreadableFile(f"{self.name}:{number}: {what}")

    def _csv_rows(self) -> Iterator[Row]:
        # Bytes that are not UTF-8 become lone surrogates: the encoder rejects the row, not the whole file.
        text = io.TextIOWrapper(self._data, encoding="utf-8-sig", errors="surrogateescape", newline="")
        lines = _bounded_lines(text)
        before = 0
        for first in lines:
            if first.strip("\r\n \t") and not SEPARATOR.fullmatch(first.strip()):
                break
            before += 1
        else:
            return
        names, delimiter = self._header(first, before + 1)
        records = CsvRecords(lines, delimiter, line=before + 1)
        records.width = len(names)
        self.note = f"{self.name}: has a header and no rows"
        for record in records:
            if record.error:
                reason = "TOO_LONG" if record.error.startswith("longer") else "NO_CSV"
                yield Row(record.line, None, Rejected(reason, record.error))
            elif any("\0" in value for value in record.values):
                yield Row(record.line, None, Rejected("NO_CSV", "has a NUL character"))
            elif len(record.values) == len(names):
                yield Row(record.line, dict(zip(names, record.values, strict=True)))
            elif record.values:
                error = f"{len(record.values)} values for {len(names)} columns"
                yield Row(record.line, None, Rejected("NO_CSV", error))

    def _header(self, line: str, number: int) -> tuple[list[str], str]:
        """The names of the columns, and the delimiter: the one that gives the most columns.

        Raises:
            UnreadableFile: the line is not a header.
        """
        place = f"{self.name}:{number}"
        if _is_json(line):
            raise UnreadableFile(f"{place}: is JSON; right would be CSV, or JSON Lines in a file that ends in .jsonl")
        found: tuple[list[str], str] = ([], ",")
        error = None
        for delimiter in ("\t",) if self._tabs and "\t" in line else DELIMITERS:
            record = CsvRecords([line], delimiter).next()
            assert record is not None
            if record.error == NEVER_CLOSED:
                raise UnreadableFile(
                    f"{place}: is not a CSV header: a quote opens in it and is not closed in this line"
                )
            error = error or record.error
            if len(record.values) > len(found[0]):
                found = record.values, delimiter
        names, delimiter = found
        if error and len(names) <= 1:
            raise UnreadableFile(f"{place}: is not a CSV header: {error}")
        if any(UNDECODED.search(name) for name in names):
            raise UnreadableFile(f"{place}: the header is not UTF-8; {NO_UTF8}")
        if "\0" in line:
            raise UnreadableFile(f"{place}: the header has a NUL character; is it text?")
        twice = next((name for name in names if name and names.count(name) > 1), None)
        if twice is not None:
            raise UnreadableFile(
                f"{place}: the column {twice!r} appears twice; right would be a name of its own for each"
            )
        return names, delimiter


def _is_json(line: str) -> bool:
    """Whether a first line is JSON, or begins a JSON value of many lines."""
    text = line.strip()
    if text in ("[", "{"):
        return True
    try:
        return text[:1] in ("[", "{") and isinstance(json.loads(text.rstrip(",")), dict | list)
    except (ValueError, RecursionError):
        return False


def has_foreign_bytes(values: Mapping[str, Any]) -> bool:
    """Whether a row of CSV has bytes that are not UTF-8."""
    return any(isinstance(value, str) and UNDECODED.search(value) for value in values.values())


@contextmanager
def open_input(path: str) -> Iterator[InputFile]:
    """A file, or stdin for ``-``.

    Raises:
        UnreadableFile: the file cannot be opened.
    """
    if path == "-":
        yield InputFile("-", sys.stdin.buffer, None)
        return
    try:
        raw = Path(path).open("rb")  # noqa: SIM115 - closed below; an error of the body is not an error of opening
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror}") from error
    with raw:
        yield InputFile(path, raw, Path(path).stat().st_size)


def _check_format(name: str, head: bytes, *, packed: bool) -> None:
    """Reject a file that is neither CSV nor JSON Lines, by its first bytes; ``packed``: they were in gzip.

    Raises:
        UnreadableFile: the format is not supported; the message has the remedy.
    """
    known = next((text for magic, text in OTHER_FORMATS.items() if head.startswith(magic)), None)
    start = head[:64]
    if known is None and len(start) > 2:  # noqa: PLR2004 - every other byte is zero
        for order, zeros in (("LE", start[1::2]), ("BE", start[0::2])):
            if not any(zeros):
                known = f"UTF-16; right would be UTF-8: iconv -f UTF-16{order} -t UTF-8 FILE"
    if known is not None:
        file = name if name != "-" else "FILE"
        if packed and "iconv" in known:
            known = known.replace("iconv", f"zcat {file} | iconv").removesuffix(" FILE")
        raise UnreadableFile(f"{name}: is {known.replace('FILE', file)}")


def _bounded_lines(text: io.TextIOWrapper) -> Iterator[str]:
    """Lines with their ends; only the begin of a line that is too long."""
    while line := text.readline(MAX_LINE + 1):
        rest = line
        while len(rest) > MAX_LINE and not rest.endswith(("\n", "\r")):
            rest = text.readline(MAX_LINE + 1)
        yield line


def _json_row(number: int, line: bytes) -> Row:
    try:
        values = json.loads(line)
    except UnicodeDecodeError as error:
        return Row(number, None, Rejected("NO_JSON", f"is not UTF-8 ({error}); {NO_UTF8}"))
    except json.JSONDecodeError as error:
        goes_on = error.pos >= len(error.doc.rstrip()) and line.rstrip().endswith((b"{", b"[", b",", b":"))
        hint = "; does it go on in the next line? Right would be an object a line: jq -c . FILE" if goes_on else ""
        return Row(number, None, Rejected("NO_JSON", f"{error}{hint}"))
    except (ValueError, RecursionError) as error:
        return Row(number, None, Rejected("NO_JSON", str(error)))
    if not isinstance(values, dict):
        return Row(number, None, Rejected("NO_JSON", "is not a JSON object"))
    return Row(number, values)


class _Headed(io.RawIOBase):
    """Bytes of a stream, counted as they are read; its first bytes can be peeked at.

    Attributes:
        count: bytes read so far.
        carriage_returns: whether lines end with a carriage return alone, which is made a line feed.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._head = b""
        self.count = 0
        self.carriage_returns = False

    def head(self) -> bytes:
        """The first bytes: a line that is not blank, or ``HEAD_BYTES``; a pipe is not waited for beyond that."""
        while len(self._head) < HEAD_BYTES and b"\n" not in self._head.removeprefix(BOM).lstrip():
            chunk = self._read(HEAD_BYTES)
            if not chunk:
                break
            self._head += chunk
        return self._head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            chunk, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        else:
            chunk = self._read(len(buffer))
        if self.carriage_returns:
            chunk = chunk.replace(b"\r", b"\n")
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def _read(self, size: int) -> bytes:
        read = getattr(self._raw, "read1", self._raw.read)
        chunk: bytes = read(size)
        self.count += len(chunk)
        return chunk
