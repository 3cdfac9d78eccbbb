"""Records of a CSV file; a stray quote costs its own line only.

RFC 4180 lets a quoted field span lines, so a quote that opens by mistake swallows every line up to the next quote, or
to the end of the file: ``csv.reader`` then silently returns one record instead of many. Here a record of several lines
is accepted only where the lines are not rows of their own; else its first line is an error, and the lines after it are
read again.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST_LINES: Final = 100
"""Lines of a quoted field, at most."""
MOST_CHARACTERS: Final = 4_000_000
"""Characters of a record, at most."""
NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
DATE: Final = re.compile(r"\d{4}-\d\d-\d\d.*|\d\d?[./]\d\d?[./]\d{2,4}.*")
OPEN: Final = "unexpected end of data"
"""The message of ``csv`` where a quote is not closed."""
NEVER_CLOSED: Final = "a quote opens here and is never closed"


class Record(NamedTuple):
    """A record, or the reason why a line is not one.

    Attributes:
        line: its first line in the file, from 1.
        values: its fields; none for a blank line.
        error: the reason why it is not a record; None where it is one.
    """

    line: int
    values: list[str]
    error: str | None = None


class CsvRecords:
    """The records of lines.

    Args:
        lines: with their ends; a line longer than ``MOST_CHARACTERS`` is an error.
        delimiter: between fields.
        line: the number of the last line before these.

    Attributes:
        width: the number of fields of a record; None while it is unknown. Set it after the header.
    """

    def __init__(self, lines: Iterable[str], delimiter: str = ",", line: int = 0) -> None:
        csv.field_size_limit(MOST_CHARACTERS)
        self._lines = iter(lines)
        self._ahead: deque[str] = deque()
        self._delimiter = delimiter
        self._kinds: dict[int, re.Pattern[str]] | None = None
        self.line = line
        self.width: int | None = None

    def __iter__(self) -> Iterator[Record]:
        """The records in order."""
        while (record := self.next()) is not None:
            yield record

    def next(self) -> Record | None:
        """The next record; None at the end."""
        if not self._look(1):
            return None
        first = self._ahead.popleft()
        self.line += 1
        begin = self.line
        if not first.strip("\r\n"):
            return Record(begin, [])
        if len(first) > MOST_CHARACTERS:
            return Record(begin, [], f"longer than {MOST_CHARACTERS} characters")
        try:
            values = self._parse([first])
        except csv.Error as error:
            if str(error) != OPEN:
                return Record(begin, [], f"{error}: a quote within a quoted field is written twice")
            return self._long_record(first, begin)
        self._learn(values)
        return Record(begin, values)

    def _long_record(self, first: str, begin: int) -> Record:
        """A record of several lines, or the error of its first line."""
        lines, size = [first], len(first)
        while True:
            if len(lines) >= MOST_LINES or size > MOST_CHARACTERS:
                return Record(begin, [], f"a quote opens here and is not closed within {MOST_LINES} lines")
            if not self._look(len(lines)):
                return Record(begin, [], NEVER_CLOSED)
            lines.append(self._ahead[len(lines) - 1])
            size += len(lines[-1])
            if '"' not in lines[-1]:
                continue
            try:
                values = self._parse(lines)
            except csv.Error as error:
                if str(error) == OPEN:
                    continue
                last = begin + len(lines) - 1
                return Record(begin, [], f"a quote opens here, and the next one, in line {last}, does not close it")
            break
        if self.width is not None and len(values) != self.width:
            closed = f"a quote opens here and is closed {len(lines) - 1} lines later"
            return Record(begin, [], f"{closed}: {len(values)} values for {self.width} columns")
        if self._swallows_rows(lines):
            last = begin + len(lines) - 1
            return Record(begin, [], f"a quote opens here and is closed in line {last}, with whole rows between")
        for _ in lines[1:]:
            self._ahead.popleft()
        self.line += len(lines) - 1
        return Record(begin, values)

    def _swallows_rows(self, lines: list[str]) -> bool:
        """Whether lines of one record look like rows of their own.

        The text of a quoted field may have commas. A line is a row if it has as many fields as a row, and numbers and
        dates where the first row has them.
        """
        if self.width is None or self.width == 1:
            return False
        column = len(self._parse([lines[0]], strict=False)) - 1
        if any(self._is_row(line) for line in lines[1:-1]):
            return True
        # The last line begins with the end of the field, so that it has as many fields as a row only in column 0.
        if column > 0 and self._is_row(lines[-1]):
            return True
        later = [place for place in self._kinds or () if place > column]
        return bool(later) and self._is_row(lines[0])

    def _is_row(self, line: str) -> bool:
        values = self._parse([line], strict=False, quoting=csv.QUOTE_NONE)
        kinds = self._kinds or {}
        return len(values) == self.width and all(
            kind.fullmatch(values[place].strip(' "')) for place, kind in kinds.items()
        )

    def _learn(self, values: list[str]) -> None:
        """The columns of numbers and dates, from the first row."""
        if self.width is None or self._kinds is not None or len(values) != self.width:
            return
        self._kinds = {
            place: kind
            for place, value in enumerate(values)
            for kind in (NUMBER, DATE)
            if kind.fullmatch(value.strip())
        }

    def _parse(self, lines: list[str], *, strict: bool = True, quoting: int = csv.QUOTE_MINIMAL) -> list[str]:
        return next(csv.reader(lines, delimiter=self._delimiter, strict=strict, quoting=quoting), [])  # type: ignore[arg-type]

    def _look(self, count: int) -> bool:
        """Whether that many lines follow."""
        while len(self._ahead) < count:
            line = next(self._lines, None)
            if line is None:
                return False
            self._ahead.append(line)
        return True
