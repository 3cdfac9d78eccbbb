"""Files as people have them: byte order marks, separators, encodings, and formats that are not read."""

from __future__ import annotations

import gzip
import io
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from funnelwatch.cli.commands import cli
from funnelwatch.producers.files.importing import Account, events_of
from funnelwatch.producers.files.own_rows import own_row
from funnelwatch.producers.files.rows import InputFile, UnreadableFile

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = [
    {"sign_up_session_id": f"s{number}", "step": "A", "phase": "IMPRESSION", "ts": 1_795_706_937_144 + number}
    for number in range(3)
]
JSONL = "".join(json.dumps(event) + "\n" for event in EVENTS)
CSV = "".join(",".join(map(str, values)) + "\n" for values in [list(EVENTS[0]), *(one.values() for one in EVENTS)])
BOM = "\ufeff"


def read(content: bytes, name: str, tmp_path: Path) -> tuple[list[dict[str, Any]], Account]:
    """The events of a file; its account adds up."""
    path = tmp_path / name
    path.write_bytes(content)
    account = Account()
    made = list(events_of([str(path)], partial(own_row, funnel=None), account))
    assert account.lines == account.events + account.rejected.total()
    return made, account


def produced(content: bytes, *args: str) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, events and messages of the command with the content on stdin."""
    said = CliRunner().invoke(cli, ["produce", "-", "--dry-run", *args], input=content)
    lines = [json.loads(line) for line in said.stdout.splitlines() if line.startswith("{")]
    return said.exit_code, lines, said.stderr


TAKEN = {
    "json lines": JSONL.encode(),
    "json lines with a byte order mark": (BOM + JSONL).encode(),
    "json lines after blank lines": ("\n \r\n\n" + JSONL).encode(),
    "json lines after a mark and blank lines": (BOM + "\n\n" + JSONL).encode(),
    "json lines of Windows": JSONL.replace("\n", "\r\n").encode(),
    "json lines with carriage returns alone": JSONL.replace("\n", "\r").encode(),
    "json lines without a last line end": JSONL.rstrip("\n").encode(),
    "gzip": gzip.compress(JSONL.encode()),
    "gzip with a byte order mark": gzip.compress((BOM + JSONL).encode()),
    "gzip of several members": gzip.compress(JSONL[:100].encode()) + gzip.compress(JSONL[100:].encode()),
    "csv": CSV.encode(),
    "csv with a byte order mark": (BOM + CSV).encode(),
    "csv after blank lines": ("\n\n\r\n" + CSV).encode(),
    "csv after a line of separators": ("sep=,\n" + CSV).encode(),
    "csv of Windows": CSV.replace("\n", "\r\n").encode(),
    "csv with carriage returns alone": CSV.replace("\n", "\r").encode(),
    "csv without a last line end": CSV.rstrip("\n").encode(),
    "csv with semicolons": CSV.replace(",", ";").encode(),
    "csv with semicolons that Excel tells": ("sep=;\n" + CSV.replace(",", ";")).encode(),
    "csv with tabs": CSV.replace(",", "\t").encode(),
    "csv with bars": CSV.replace(",", "|").encode(),
    "csv with quotes": "\n".join(
        ",".join(f'"{value}"' for value in line.split(",")) for line in CSV.splitlines()
    ).encode(),
    "csv in gzip": gzip.compress(CSV.encode()),
}


@pytest.mark.parametrize("form", TAKEN)
def test_a_file_is_read_whatever_its_form(form: str, tmp_path: Path) -> None:
    """By its name or from stdin, all events are there."""
    code, events, said = produced(TAKEN[form])
    assert code == 0, said
    assert [event["sign_up_session_id"] for event in events] == ["s0", "s1", "s2"], said
    suffix = "csv" if form.startswith("csv") else "jsonl"
    made, account = read(TAKEN[form], f"events.{suffix}", tmp_path)
    assert [event["ts"] for event in made] == [event["ts"] for event in EVENTS], account.examples
    assert read(TAKEN[form], "events", tmp_path)[0] == read(TAKEN[form], "events.data", tmp_path)[0]


def test_a_tsv_has_tabs_also_where_values_have_commas(tmp_path: Path) -> None:
    """What makes the most columns separates them."""
    content = CSV.replace(",", "\t").replace("s1", "a,b,c,d,e")
    assert len(read(content.encode(), "events.tsv", tmp_path)[0]) == 3
    content = CSV.replace(",", "\t").replace("step", "a,b,c,d,e,f")
    assert next(row.values for row in InputFile("events.tsv", io.BytesIO(content.encode()), None).rows()) is not None
    content = CSV.replace(",", ";").replace("s1", "a,b,c,d,e")
    assert len(read(content.encode(), "events.csv", tmp_path)[0]) == 3


REJECTED = {
    "an array": (
        json.dumps(EVENTS).encode(),
        "is a JSON array; right would be JSON Lines, an object a line: jq -c '.[]'",
    ),
    "an array of many lines": (json.dumps(EVENTS, indent=1).encode(), ":1: is a JSON array"),
    "an array after a byte order mark": ((BOM + json.dumps(EVENTS)).encode(), ":1: is a JSON array"),
    "an object of many lines": (json.dumps(EVENTS[0], indent=1).encode(), ":1: begins a JSON object of many lines"),
    "UTF-16": (JSONL.encode("utf-16"), "is UTF-16; right would be UTF-8: iconv -f UTF-16 -t UTF-8"),
    "UTF-16 without a mark": (CSV.encode("utf-16-le"), "is UTF-16"),
    "UTF-16, big end first": (CSV.encode("utf-16-be"), "iconv -f UTF-16BE -t UTF-8 FILE"),
    "UTF-16 in gzip": (gzip.compress(CSV.encode("utf-16")), "zcat FILE | iconv -f UTF-16 -t UTF-8"),
    "UTF-32": (CSV.encode("utf-32"), "is UTF-32; right would be UTF-8: iconv -f UTF-32 -t UTF-8 FILE"),
    "a column twice": (CSV.replace("phase", "step").encode(), ":1: the column 'step' appears twice"),
    "a column twice after blank lines": (("\n\n" + CSV.replace("phase", "ts")).encode(), ":3: the column 'ts' appears"),
    "a header that is not UTF-8": (
        CSV.replace("phase", "Gr\u00f6\u00dfe").encode("latin-1"),
        ":1: the header is not UTF-8",
    ),
    "a header with a quote that stays open": (CSV.replace("step", '"step').encode(), ":1: is not a CSV header"),
    "a header of two lines": (
        CSV.replace("step", '"the\nstep"').encode(),
        ":1: is not a CSV header: a quote opens in it and is not closed in this line",
    ),
    "a zip archive": (b"PK\x03\x04" + b"x" * 50, "is a zip archive or a workbook"),
    "zstd": (b"\x28\xb5\x2f\xfd" + b"x" * 50, "is compressed with zstd"),
    "bzip2": (b"BZh9" + b"x" * 50, "is compressed with bzip2"),
    "gzip twice": (gzip.compress(gzip.compress(JSONL.encode())), "is gzip within gzip"),
    "Parquet": (b"PAR1" + b"x" * 50, "is Parquet"),
    "gzip that is cut": (gzip.compress(JSONL.encode())[:-20], "ended"),
    "gzip that is none": (b"\x1f\x8b\x08" + b"x" * 50, "-"),
}


@pytest.mark.parametrize("form", REJECTED)
def test_a_file_that_cannot_be_read_says_what_to_do(form: str) -> None:
    """With exit code 1."""
    content, said = REJECTED[form]
    code, _, message = produced(content)
    assert code == 1, message
    assert f"Error: -{said}" in message or said in message


@pytest.mark.parametrize(
    "content", ['[{"step":"A"}]', json.dumps(EVENTS), json.dumps(EVENTS, indent=1), JSONL, JSONL.splitlines()[0], "{\n"]
)
def test_json_in_a_file_named_as_csv_is_rejected(content: str, tmp_path: Path) -> None:
    """Its first line is no header, and what follows is no row."""
    with pytest.raises(UnreadableFile, match=r"events\.csv:1: is JSON; right would be"):
        read(content.encode(), "events.csv", tmp_path)


def test_json_lines_on_stdin_after_a_blank_line_and_a_byte_order_mark_are_taken() -> None:
    """As from programs that join files."""
    assert len(produced(("\n" + BOM + JSONL).encode())[1]) == len(EVENTS)


NOTED = {
    "nothing": (b"", "is empty"),
    "blank lines": (b"\n\n \r\n", "is empty"),
    "a byte order mark": (BOM.encode(), "is empty"),
    "a header alone": (CSV.splitlines()[0].encode(), "has a header and no rows"),
    "a header and blank lines": (CSV.splitlines()[0].encode() + b"\n\n\n", "has a header and no rows"),
    "nothing in gzip": (gzip.compress(b""), "is empty"),
}


@pytest.mark.parametrize("form", NOTED)
def test_a_file_without_rows_is_told_and_no_error(form: str) -> None:
    """A day may have no events."""
    content, said = NOTED[form]
    code, events, message = produced(content)
    assert (code, events) == (0, [])
    assert f"note: -: {said}" in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (CSV.replace("s1", "s\0"), "-:3: has a NUL character"),
        (JSONL.replace("s1", "s\0"), "-:2: Invalid control character"),
        (JSONL.replace('"step"', '\n"step"', 1), "-:1: Expecting property name"),
        (JSONL.replace('"step"', '\n"step"', 1), "does it go on in the next line?"),
        (JSONL + "[1]\n", "-:4: is not a JSON object"),
        (JSONL + '{"ts": 1' + "0" * 5_000 + "}\n", "-:4: Exceeds the limit"),
    ],
)
def test_a_row_that_cannot_be_is_named(content: str, said: str) -> None:
    """The others are taken."""
    code, events, message = produced(content.encode())
    assert code == 0
    assert len(events) >= 2
    assert said in message


def test_a_row_that_is_not_utf_8_says_so(tmp_path: Path) -> None:
    """Of CSV and of JSON Lines."""
    made, account = read(CSV.replace("s1", "J\u00f6rg").encode("latin-1"), "events.csv", tmp_path)
    assert len(made) == 2
    assert "the file is not UTF-8; right would be UTF-8: iconv -f LATIN1" in account.examples["BAD_FIELD"][0]
    made, account = read(JSONL.replace("s1", "J\u00f6rg").encode("latin-1"), "events.jsonl", tmp_path)
    assert len(made) == 2
    assert "is not UTF-8" in account.examples["NO_JSON"][0]


def test_a_pipe_that_writes_byte_by_byte_is_read() -> None:
    """What the file is is told by its first line, however it comes."""

    class ByteByByte(io.RawIOBase):
        def __init__(self, content: bytes) -> None:
            self._rest = content

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            part, self._rest = self._rest[:1], self._rest[1:]
            buffer[: len(part)] = part
            return len(part)

    for content in ((BOM + JSONL).encode(), gzip.compress(JSONL.encode()), ("\n" + CSV).encode()):
        file = InputFile("-", ByteByByte(content), None)  # type: ignore[arg-type] - a raw stream reads as a file does
        assert len(list(file.rows())) == 3
        assert file.read_bytes == len(content)


def test_a_duplicate_column_without_a_name_is_passed_over(tmp_path: Path) -> None:
    """Separators at the ends of lines make columns without names; without a mapping they are unknown fields."""
    content = "\n".join(line + ",," for line in CSV.splitlines()).encode()
    _, account = read(content, "events.csv", tmp_path)
    assert set(account.rejected) == {"UNKNOWN_FIELD"}


def test_an_unreadable_file_is_told_before_any_row(tmp_path: Path) -> None:
    """Nothing of it is used."""
    path = tmp_path / "events.json"
    path.write_text(json.dumps(EVENTS))
    account = Account()
    with pytest.raises(UnreadableFile, match="is a JSON array"):
        list(events_of([str(path)], partial(own_row, funnel=None), account))
    assert account.lines == 0
