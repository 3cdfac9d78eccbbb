"""Line protocol: what InfluxDB's own client writes is read as it was meant, whatever it holds."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from influxdb_client import Point as Written

from funnelwatch.producers.collector.lines import PRECISIONS, BadLine, Point, parse_lines

# The library reads no subnormal floats. The protocol has no way to write a newline, or a backslash at the end, of a
# name or a tag, and no NUL anywhere.
LETTERS = st.characters(exclude_characters="\0\n\r\t\\", exclude_categories=("Cs",))
NAMES = st.text(LETTERS, min_size=1, max_size=12).filter(lambda name: not name.startswith(("#", "_")) and name.strip())
TEXTS = st.text(st.characters(exclude_characters="\0\r", exclude_categories=("Cs",)), max_size=20)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
    TEXTS,
)
POINTS = st.tuples(
    NAMES,
    st.dictionaries(NAMES, NAMES, max_size=4),
    st.dictionaries(NAMES, VALUES, min_size=1, max_size=4),
    st.none() | st.integers(-(2**62), 2**62),
)


def written(measurement: str, tags: dict[str, str], fields: dict[str, Any], time: int | None) -> str:
    """The line that the client makes."""
    point = Written(measurement)
    for key, value in tags.items():
        point.tag(key, value)
    for key, value in fields.items():
        point.field(key, value)
    return str(point.time(time).to_line_protocol()) if time is not None else str(point.to_line_protocol())


@given(st.lists(POINTS, max_size=6), st.lists(st.sampled_from(["", "  ", '# a "comment', "\r"]), max_size=3))
def test_a_body_of_the_client_is_read_as_it_was_written(points: list[Any], between: list[str]) -> None:
    """Names, tags, types, texts over several lines, times; comments and blank lines between them are nothing."""
    body = "".join(f"{written(*point)}\n" + "".join(f"{line}\n" for line in between) for point in points)
    read = [point for _, point in parse_lines(body, PRECISIONS["ns"])]
    assert len(read) == len(points)
    for found, (measurement, tags, fields, time) in zip(read, points, strict=True):
        assert isinstance(found, Point), found
        assert (found.measurement, found.tags, found.exact_ns) == (measurement, tags, time)
        assert found.fields.keys() == fields.keys()
        for key, value in fields.items():
            assert type(found.fields[key]) is type(value)
            assert found.fields[key] == value or math.isclose(float(found.fields[key]), float(value), rel_tol=1e-12)


@given(st.text(max_size=200))
def test_any_text_is_read_to_its_end(body: str) -> None:
    """Whatever it is, each line is a point or an error, in order, and none raises."""
    found = list(parse_lines(body, PRECISIONS["s"]))
    numbers = [number for number, _ in found]
    assert numbers == sorted(numbers)
    assert all(isinstance(one, Point | BadLine) for _, one in found)


@given(st.text(st.sampled_from('a=, "\\\n#1i'), max_size=60))
def test_lines_made_of_the_grammars_own_letters_do_no_harm(body: str) -> None:
    """Where a line ends is never wrong by more than that line: a good one behind a blank line's worth is found."""
    found = list(parse_lines(body.replace('"', "") + "\n\ngood f=1\n", PRECISIONS["ns"]))
    last = found[-1][1]
    assert isinstance(last, Point)
    assert last.measurement.endswith("good") or "good" in str(last.tags)


@given(st.integers(-(10**12), 10**12), st.sampled_from(sorted(PRECISIONS)))
def test_times_are_of_their_precision(ms: int, precision: str) -> None:
    """The same moment, in any unit that can hold it."""
    ns = ms * 1_000_000
    unit = PRECISIONS[precision]
    (found,) = [point for _, point in parse_lines(f"m f=1 {ns // unit}", unit)]
    assert isinstance(found, Point)
    assert found.ts is not None
    assert found.ts == ns // unit * unit // 1_000_000
