"""Counts and incidents as CSV, as other people write them."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelwatch.schemas.admission import SeriesLimits
from funnelwatch.schemas.count_history import WindowStartsError, by_funnel, window_length
from funnelwatch.schemas.counts import CountRow, Series
from funnelwatch.schemas.funnels import BUILT_IN
from funnelwatch.stream.backtest import csv_counts
from funnelwatch.stream.backtest.csv_counts import read_counts
from funnelwatch.stream.backtest.incidents import Incident, read_incidents
from funnelwatch.stream.backtest.table import TableError, moment

if TYPE_CHECKING:
    from pathlib import Path

    from funnelwatch.schemas.count_history import History

HEAD = "window_start,funnel,step,os,impressions,successes"
NOON = 1_767_268_800_000  # 2026-01-01T12:00:00Z


def totals(histories: list[History]) -> Counter[tuple[int, Series, int]]:
    """Impressions and successes by window and series."""
    found: Counter[tuple[int, Series, int]] = Counter()
    for one in histories:
        for start, place, tally in zip(one.starts.tolist(), one.places.tolist(), one.tallies.tolist(), strict=True):
            for channel in (0, 1):
                found[start, one.series[place], channel] += tally[channel]
    return +found


def read(path: Path) -> list[History]:
    """The histories of a file, by roomy limits."""
    return read_counts(path, BUILT_IN, SeriesLimits(1_000, 1_000, 1_000, 1_000, 1_000))


def written(tmp_path: Path, text: str | bytes, name: str = "counts.csv") -> Path:
    """A file with this text."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00", exclude_categories=["Cs"]), max_size=20)
ROWS = st.lists(
    st.tuples(
        st.integers(0, 50), NAMES.filter(bool), NAMES.filter(bool), NAMES, st.integers(0, 99_999), st.integers(0, 12)
    ),
    min_size=1,
    max_size=30,
)


@given(
    rows=ROWS,
    ending=st.sampled_from(["\n", "\r\n"]),
    block=st.integers(20, 400),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    trimmed=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_blocks_of_bytes_are_read_as_the_csv_module_reads_rows(  # noqa: PLR0917
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, str, str, str, int, int]],
    ending: str,
    block: int,
    quoting: int,
    trimmed: bool,
) -> None:
    """Any names, line ends, quotes and block boundaries; a column more than is known, and columns in another order."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=ending, quoting=quoting)
    writer.writerow(["os", "extra", *HEAD.split(",")[:3], "successes", "impressions"])
    for minute, funnel, step, os, shown, made in rows:
        time = f"2026-01-01T12:{minute:02}:00{'Z' if minute % 2 else '+00:00'}"
        writer.writerow([os, "x", time, funnel, step, made, shown])
    text = out.getvalue()
    path = tmp_path_factory.mktemp("csv") / "counts.csv.gz"
    path.write_bytes(gzip.compress((text.rstrip("\r\n") if trimmed else text).encode("utf-8-sig")))
    wanted: Counter[tuple[int, Series, int]] = Counter()
    for minute, funnel, step, os, shown, made in rows:
        wanted[NOON + minute * 60_000, Series.of(funnel, step, os=os), 0] += shown
        wanted[NOON + minute * 60_000, Series.of(funnel, step, os=os), 1] += made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_counts, "BLOCK", block)
        found = read(path)

    assert totals(found) == +wanted
    assert all((one.starts[1:] >= one.starts[:-1]).all() for one in found)


def test_an_ordinary_file_is_read_at_once_and_not_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast path takes what people write; its result is that of the careful one."""
    text = HEAD + "\n" + "".join(f"2026-01-01T12:{i:02}:00Z,f,A,{os},{i},{i}\n" for i in range(60) for os in "xy")
    path = written(tmp_path, text)
    careful = totals(read(written(tmp_path, text.replace("f,A", '"f",A'), "quoted.csv")))

    def fail(*_: object) -> None:
        raise AssertionError("row by row")

    monkeypatch.setattr(csv_counts._Reader, "by_row", fail)

    assert totals(read(path)) == careful


@pytest.mark.parametrize("quote", ["", '"'])
def test_columns_of_sessions_are_read_beside_those_of_events(tmp_path: Path, quote: str) -> None:
    """At once, and row by row where there are quotes; without the columns no session is counted."""
    text = HEAD + ",session_successes,sessions\n" + f"2026-01-01T12:00:00Z,{quote}f{quote},A,x,10,7,4,6\n" * 2
    [found] = read(written(tmp_path, text))
    [plain] = read(written(tmp_path, HEAD + "\n2026-01-01T12:00:00Z,f,A,x,10,7\n", "plain.csv"))

    assert found.tallies.tolist() == [[10, 7, 7, 6, 4]] * 2
    assert (found.counts_sessions, plain.counts_sessions) == (True, False)
    [block] = found.every_block(60_000)
    assert CountRow(*block.tallies[0].tolist()) == CountRow(10, 7, 0, 7, sessions=6, session_successes=4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{HEAD},sessions\n",
            ":1: session_successes: this column is missing; right would be both of sessions, session",
        ),
        (
            f"{HEAD},sessions,session_successes\n2026-01-01T12:00:00Z,f,A,x,9,9,3,4\n",
            ":2: session_successes: 4 is more than sessions, 3",
        ),
        ("", "counts.csv:1: is empty; right would be a first line with window_start,funnel"),
        (
            "window_start,funnel,stpe,os,impressions,successes\n",
            "counts.csv:1: step: this column is missing (is 'stpe'",
        ),
        (HEAD + ",os\n", "counts.csv:1: os: this column appears twice"),
        (
            HEAD + "\n2026-01-01T00:00:00Z,f,A,x,1,1\nyesterday,f,A,x,1,1\n",
            ":3: window_start: 'yesterday' is not a time",
        ),
        (
            HEAD + "\n2026-13-01T00:00:00Z,f,A,x,1,1\n",
            "counts.csv:2: window_start: '2026-13-01T00:00:00Z' is not a time",
        ),
        (HEAD + "\n2026-01-01T00:00:00Z,f,A,x,-1,1\n", "counts.csv:2: impressions: '-1' is below 0; right would be"),
        (HEAD + "\n2026-01-01T00:00:00Z,f,A,x,1,1.5\n", "counts.csv:2: successes: '1.5' is not a whole number"),
        (HEAD + "\n2026-01-01T00:00:00Z,f,A,x,many,1\n", "counts.csv:2: impressions: 'many' is not a number"),
        (HEAD + "\n2026-01-01T00:00:00Z,f,A,x,,1\n", "counts.csv:2: impressions: is empty"),
        (HEAD + "\n2026-01-01T00:00:00Z,f,A,x,nan,1\n", "counts.csv:2: impressions: 'nan' is not a whole number"),
        (HEAD + "\n2026-01-01T00:00:00Z,f,,x,1,1\n", "counts.csv:2: step: is empty"),
        (HEAD + "\n\n2026-01-01T00:00:00Z,f,A,x,1\n", "counts.csv:3: successes: is missing: the row has 5 fields"),
        (HEAD.encode() + b"\n2026-01-01T00:00:00Z,f,\xff,x,1,1\n", "counts.csv:2: is not UTF-8 (byte 0xff)"),
        (b"\x1f\x8b\x08rubbish", "counts.csv: cannot be read"),
        (HEAD.replace(",", ";"), "counts.csv:1: has semicolons between its fields; right would be commas"),
        (HEAD.replace(",", "\t"), "counts.csv:1: has tabs between its fields; right would be commas"),
        (HEAD.encode("utf-16"), "counts.csv:1: is not CSV in UTF-8; is it UTF-16?"),
        (HEAD.encode("utf-16-be"), "counts.csv:1: is not CSV in UTF-8; is it UTF-16?"),
    ],
)
def test_an_error_is_named_with_file_line_and_field(tmp_path: Path, text: str | bytes, message: str) -> None:
    """What a person who made the file reads."""
    with pytest.raises(TableError) as raised:
        read(written(tmp_path, text))

    assert message in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Not a traceback."""
    with pytest.raises(TableError, match=r"absent\.csv: cannot be read: No such file"):
        read(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    "text",
    ["2026-01-01T12:00:00Z", "2026-01-01 12:00", "2026-01-01T14:00:00+02:00", " 2026-01-01T06:30:00-05:30"],
)
def test_times_of_any_zone_are_one_moment(text: str) -> None:
    """Without a zone it is UTC."""
    assert moment(text) == NOON


def test_incidents_name_what_they_concern_and_no_more(tmp_path: Path) -> None:
    """Empty, missing, ``*`` and ``all`` mean all."""
    text = (
        "\ufeffStart,END,os,step,note\n"
        "2026-01-01T12:00:00Z,2026-01-01T13:00:00Z,iOS,,hm\n"
        '"2026-01-01 12:00","2026-01-01 12:01",all,A\n'
        "\n"
    )
    assert read_incidents(written(tmp_path, text), BUILT_IN) == [
        Incident(NOON, NOON + 3_600_000, {"os": "iOS"}),
        Incident(NOON, NOON + 60_000, {"step": "A"}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("begin,end\n", "counts.csv:1: start: this column is missing"),
        ("start,end\n2026-01-01T12:00:00Z,\n", "counts.csv:2: end: is empty"),
        ("start,end\n2026-01-01T12:00Z,2026-01-01T12:00Z\n", "counts.csv:2: end: 2026-01-01T12:00Z is not after start"),
    ],
)
def test_an_error_in_incidents_is_named(tmp_path: Path, text: str, message: str) -> None:
    """File, line and field."""
    with pytest.raises(TableError) as raised:
        read_incidents(written(tmp_path, text), BUILT_IN)

    assert message in str(raised.value)


def test_the_length_of_windows_is_told_from_their_starts() -> None:
    """Gaps do not matter; what fits no length is rejected."""
    import numpy as np

    minute = 60_000
    assert window_length(np.array([0, 5, 10, 40]) * minute) == 5 * minute
    assert window_length(np.array([0, 5, 10, 40]) * minute, minute) == minute
    for starts, given_ms, message in (
        ([0, 5, 10, 12], None, "not by multiples of one length"),
        ([0, 5], 2 * minute, "not all starts are multiples"),
        ([0], None, "give --window"),
        ([0, 2 * 1440], None, "cannot be evaluated"),
    ):
        with pytest.raises(WindowStartsError, match=message):
            window_length(np.array(starts) * minute, given_ms)


def test_rows_of_several_funnels_in_any_order_are_told_apart() -> None:
    """Each funnel has its own series, oldest first, and a window without rows counts nothing."""
    import numpy as np

    series = [Series.of("f", "A"), Series.of("g", "A"), Series.of("f", "B")]
    tallies = np.arange(12, dtype=np.uint32).reshape(4, 3)
    found = by_funnel(series, np.array([3000, 1000, 1000, 3000]), np.array([0, 1, 2, 0]), tallies)

    assert [(one.funnel, list(one.series), one.starts.tolist()) for one in found] == [
        ("f", [series[0], series[2]], [1000, 3000, 3000]),
        ("g", [series[1]], [1000]),
    ]
    (block,) = found[0].blocks(1000, 0, 5000)
    impressions = np.bincount(block.rows * 2 + block.places, block.tallies[:, 0], minlength=10).reshape(5, 2)
    assert impressions.tolist() == [[0, 0], [0, 6], [0, 0], [0 + 9, 0], [0, 0]]
