"""Records of CSV: a stray quote costs its own line, and a field of several lines is taken as one."""

from __future__ import annotations

import csv
import io
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from funnelwatch.producers.files.csv_records import MOST_LINES, CsvRecords
from funnelwatch.producers.files.importing import Account, events_of
from funnelwatch.producers.files.own_rows import own_row
from funnelwatch.schemas.admission import SeriesLimits
from funnelwatch.schemas.funnels import BUILT_IN
from funnelwatch.stream.backtest.csv_counts import read_counts
from funnelwatch.stream.backtest.table import TableError

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "sign_up_session_id,phase,ts,os,app_version,contexts.query"
STEP = ",step"


def row(number: int, query: str = "q", session: str | None = None) -> str:
    """An impression."""
    return f"{session or f'c{number}'},IMPRESSION,2026-11-26 10:00:{number % 60:02},iOS,1.0,{query},INPUT_NAME"


def read(lines: list[str], tmp_path: Path, ending: str = "\n", name: str = "clicks.csv") -> tuple[list[str], Account]:
    """The sessions of the events of a file, and its account, which adds up."""
    path = tmp_path / name
    path.write_bytes((ending.join([HEADER + STEP, *lines]) + ending).encode())
    account = Account()
    sessions = [event["sign_up_session_id"] for event in events_of([str(path)], partial(own_row, funnel=None), account)]
    assert account.lines == account.events + account.rejected.total()
    return sessions, account


GOOD = [row(number) for number in range(1, 6)]


@pytest.mark.parametrize("bad", range(5))
@pytest.mark.parametrize(
    ("stray", "said"),
    [
        ('"asked for 20 inch', "a quote opens here"),
        ('"asked for 20" inch', "',' expected after '\"'"),
        ('"', "a quote opens here"),
        ('"""', "a quote opens here"),
        ('"a""', "a quote opens here"),
    ],
)
def test_a_stray_quote_costs_its_own_line(bad: int, stray: str, said: str, tmp_path: Path) -> None:
    """Wherever the row is; the line is told, and no other row is lost."""
    lines = [row(number, stray) if number == bad + 1 else row(number) for number in range(1, 6)]
    sessions, account = read(lines, tmp_path)
    assert sessions == [f"c{number}" for number in range(1, 6) if number != bad + 1]
    (example,) = account.examples["NO_CSV"]
    assert f"clicks.csv:{bad + 2}: " in example
    assert said in example


@pytest.mark.parametrize("column", range(6))
@pytest.mark.parametrize("gap", [1, 2, 3])
def test_two_stray_quotes_cost_no_row_between_them(column: int, gap: int, tmp_path: Path) -> None:
    """The second closes the first as far as the grammar goes; whole rows between them are no text of a field."""
    lines = []
    for number in range(1, 7):
        fields = row(number).split(",")
        if number == 2:
            fields[column] = '"' + fields[column]
        if number == 2 + gap:
            fields[column] += '"'
        lines.append(",".join(fields))
    sessions, account = read(lines, tmp_path)
    assert {"c1", "c6"} | {f"c{number}" for number in range(3, 2 + gap)} <= set(sessions)
    assert "c2" not in sessions
    assert len(sessions) >= 4
    assert "clicks.csv:3: " in account.examples["NO_CSV"][0]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_field_of_several_lines_is_one_field(ending: str, tmp_path: Path) -> None:
    """In any column, with commas, quotes that are written twice, and blank lines in it."""
    text = ending.join(['"first, with a comma', "", 'second ""quoted"" one', "20, 30, 40", 'last, one"'])
    lines = [row(1, text), row(2), row(3, text, session='"c3"'), row(4, session=f'"c4{ending}x"')]
    sessions, account = read(lines, tmp_path, ending)
    assert sessions == ["c1", "c2", "c3", f"c4{ending}x"]
    assert not account.rejected


def test_a_field_has_a_bounded_number_of_lines(tmp_path: Path) -> None:
    """A quote that nothing closes soon does not make the rest of a large file one field."""
    text = '"' + "\n" * (MOST_LINES + 5) + '"'
    sessions, account = read([row(1), row(2, text), row(3)], tmp_path)
    assert sessions == ["c1", "c3"]
    assert f"not closed within {MOST_LINES} lines" in account.examples["NO_CSV"][0]


def test_a_file_of_stray_quotes_is_read_to_its_end(tmp_path: Path) -> None:
    """Each costs its line, and no more than a bounded look ahead."""
    many = 3_000
    lines = [row(number, '"open' if number % 2 else "q") for number in range(many)]
    sessions, account = read(lines, tmp_path)
    assert (len(sessions), account.rejected.total()) == (many // 2, many // 2)


def test_rows_of_another_width_are_rejected(tmp_path: Path) -> None:
    """With both numbers."""
    sessions, account = read([row(1), "a,b", row(2) + ",more", row(3)], tmp_path)
    assert sessions == ["c1", "c3"]
    assert "2 values for 7 columns" in account.examples["NO_CSV"][0]


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), min_size=3, max_size=3),
        max_size=8,
    )
)
def test_what_the_csv_module_writes_is_read_as_it_was(rows: list[list[str]]) -> None:
    """Any texts, with any line ends in them, but for lines that look like rows."""
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows(rows)
    records = CsvRecords(io.StringIO(out.getvalue(), newline=""))
    assert [record.values for record in records] == rows


def test_a_table_of_counts_loses_no_row_to_a_stray_quote(tmp_path: Path) -> None:
    """The error names its line, and nothing is read."""
    head = "window_start,funnel,step,os,impressions,successes,comment"
    rows = [f"2026-01-01T12:0{minute}:00Z,f,A,iOS,10,5,fine" for minute in range(5)]
    rows[1] = rows[1].replace("fine", '"20 inch')
    path = tmp_path / "counts.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    with pytest.raises(TableError, match=r"counts\.csv:3: is no line of CSV: a quote opens here"):
        read_counts(path, BUILT_IN, SeriesLimits())
