r"""InfluxDB line protocol to points: ``measurement,tag=value field=1.5,other="text" 1700000000000000000``.

A library parses each line; this module finds the ends of lines, because a quoted text may span several:
https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from line_protocol_parser import LineFormatError, parse_line

if TYPE_CHECKING:
    from collections.abc import Iterator

NS: Final = 1
PRECISIONS: Final = {
    "ns": NS,
    "n": NS,
    "us": 1_000,
    "u": 1_000,
    "µ": 1_000,  # U+00B5, the micro sign
    "\N{GREEK SMALL LETTER MU}": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
"""Nanoseconds in the unit of a timestamp, by the value of the parameter precision (InfluxDB 2, and 1 with m and h)."""

Value = float | int | bool | str

PASSED_OVER: Final = re.compile(r"(?: [\ \t\r\n]++ | \#[^\n]*+ )*+", re.VERBOSE)
"""Blank lines, comments, and the space before a line."""

# The series up to the first space that is not escaped, where a quote means nothing, then fields and time,
# where quoted text after a "=" may contain anything. Possessive, so that matching takes linear time.
LINE: Final = re.compile(
    r"""
    (?: \\[^\n] | [^\\\n ] | \\ )*+
    (?: \\[^\n] | ="(?: \\[\s\S] | [^"\\] )*+" | [^\n] )*+
    """,
    re.VERBOSE,
)
SERIES_KEY: Final = re.compile(r"(?: \\[^\n] | [^\\\n\ ] | \\ )*+", re.VERBOSE)
"""Measurement and tags: up to the first space that is not escaped."""
TAG: Final = re.compile(r"(?<!\\),")
MOST_KEY: Final = 65_535
"""Characters of measurement and tags, as InfluxDB limits their bytes."""
MOST_TAGS: Final = 250


@dataclass(frozen=True, slots=True)
class Point:
    """One line.

    Attributes:
        measurement: its name.
        tags: texts by name.
        fields: numbers, booleans and texts by name; at least one.
        ts: its time, ms since the epoch, UTC; None where the line has none.
        exact_ns: the same in ns, to distinguish two points of one millisecond.
    """

    measurement: str
    tags: dict[str, str]
    fields: dict[str, Value]
    ts: int | None
    exact_ns: int | None


@dataclass(frozen=True, slots=True)
class BadLine:
    """An invalid line.

    Attributes:
        message: in the words of InfluxDB, ``unable to parse 'LINE': why``.
    """

    message: str


def split_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a body that are neither blank nor comments, unparsed, each with its number, from 1."""
    at, number = 0, 1
    while True:
        passed_over = PASSED_OVER.match(text, at)
        begin = passed_over.end() if passed_over else at
        number += text.count("\n", at, begin)
        if begin == len(text):
            return
        found = LINE.match(text, begin)
        at = max(found.end() if found else len(text), begin + 1)
        yield number, text[begin:at].rstrip("\r")
        number += text.count("\n", begin, at)


def parse_lines(text: str, unit_ns: int) -> Iterator[tuple[int, Point | BadLine]]:
    """The points of a body, each with the number of its line, from 1; blank lines and comments are skipped.

    Args:
        text: the body.
        unit_ns: unit of its timestamps, one of ``PRECISIONS``.
    """
    return ((number, parse_point(line, unit_ns)) for number, line in split_lines(text))


def parse_point(line: str, unit_ns: int) -> Point | BadLine:
    """The point of one line.

    Args:
        line: a line of ``split_lines``.
        unit_ns: unit of its timestamp.
    """
    if error := _too_much(line):
        return _bad(line, error)
    try:
        parsed = parse_line(line)
    except (LineFormatError, ValueError, OverflowError) as error:
        return _bad(line, str(error).rstrip("."))
    exact = None if parsed["time"] is None else parsed["time"] * unit_ns
    ts = None if exact is None else exact // PRECISIONS["ms"]
    return Point(parsed["measurement"], parsed["tags"], parsed["fields"], ts, exact)


def _too_much(line: str) -> str | None:
    """The reason why a line is not parsed; the parser's time grows with the square of the number of tags."""
    key = SERIES_KEY.match(line)
    length = key.end() if key else 0
    if length > MOST_KEY:
        return f"the measurement and tags have {length} characters, more than {MOST_KEY}"
    tags = len(TAG.findall(line, 0, length))
    return f"there are {tags} tags, more than {MOST_TAGS}" if tags > MOST_TAGS else None


def _bad(line: str, why: str) -> BadLine:
    shown = line if len(line) <= 100 else f"{line[:100]}…"  # noqa: PLR2004 - as much as a person reads
    return BadLine(f"unable to parse '{shown}': {why}")
