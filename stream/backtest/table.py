"""CSV tables that people provide: header, byte order mark, compression, and errors by file, line and field."""

from __future__ import annotations

import csv
import difflib
import gzip
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, cast

from funnelwatch.schemas.errors import FileError
from funnelwatch.schemas.times import parse_instant_ms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


class TableError(FileError):
    """A CSV table is rejected."""


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, uncompressed where it is gzip by its first bytes, without byte order mark.

    Raises:
        TableError: the file cannot be read.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            with cast("IO[bytes]", gzip.open(raw)) if packed else raw as file:
                mark = file.read(len(BOM))
                file.seek(len(BOM) if mark == BOM else 0)
                yield file
    except (OSError, EOFError, zlib.error) as error:
        raise TableError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def header(path: Path, line: bytes, needed: Sequence[str], optional: Sequence[str]) -> dict[str, int]:
    """The places of the known columns in the first line; others are ignored.

    Raises:
        TableError: the line is empty, or a needed column is missing or appears twice.
    """
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in line:
        raise TableError(f"{path}:1: is not CSV in UTF-8; is it UTF-16? Right would be: iconv -f UTF-16 -t UTF-8")
    try:
        names = [name.strip().lower() for name in next(csv.reader([line.decode()]), [])]
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}:1: is not a line of CSV in UTF-8: {error}") from None
    right = f"a first line with {','.join(needed)}"
    if not names:
        raise TableError(f"{path}:1: is empty; right would be {right}")
    other = next((mark for mark in OTHER_DELIMITERS if len(names) == 1 and mark in names[0]), None)
    if other is not None:
        raise TableError(f"{path}:1: has {OTHER_DELIMITERS[other]} between its fields; right would be commas: {right}")
    for name in needed:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f" (is {near[0]!r} meant?)" if near else ""
            raise TableError(f"{path}:1: {name}: this column is missing{hint}; right would be {right}")
    for name in (*needed, *optional):
        if names.count(name) > 1:
            raise TableError(f"{path}:1: {name}: this column appears twice; right would be once")
    return {name: names.index(name) for name in (*needed, *optional) if name in names}


def width(line: bytes) -> int:
    """The number of columns of a first line that ``header`` accepts."""
    return len(next(csv.reader([line.decode()])))


def moment(text: str) -> int:
    """A time in ISO 8601, or a number of seconds or ms, in ms since the epoch; without a zone it is UTC.

    Raises:
        ValueError: the text is not a time.
    """
    text = text.strip()
    try:
        return parse_instant_ms(text)
    except ValueError as error:
        what = f"{text[:50]!r} is not a time: {error}" if text else "is empty"
        raise ValueError(f"{what}; right would be ISO 8601, such as 2026-11-22T10:00:00Z") from None


def whole(text: str) -> int:
    """A count; ``200.0`` is valid too.

    Raises:
        ValueError: the text is not a count, or below 0.
    """
    right = "right would be a whole number from 0, such as 200"
    try:
        number = int(text) if text.strip().lstrip("+-").isdigit() else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number; {right}" if text.strip() else f"is empty; {right}") from None
    if number != number or number in {float("inf"), float("-inf")} or number != int(number):  # noqa: PLR0124
        raise ValueError(f"{text!r} is not a whole number; {right}")
    if not 0 <= number < 2**32:
        raise ValueError(f"{text!r} is {'below 0' if number < 0 else 'too large'}; {right}")
    return int(number)
