"""Figures in the docs are those of the files that the benchmarks wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.bench import goals
from tests.bench.page import BEGIN, DOCS, END, FIGURES, SECTIONS, page, short
from tests.bench.speed.__main__ import BARE, OURS, contenders

if TYPE_CHECKING:
    from pathlib import Path


def test_the_page_of_benchmarks_is_made_of_the_figures_in_the_repository() -> None:
    """`make bench-page` writes the same page again."""
    assert (DOCS / "benchmarks.md").read_text() == page(FIGURES)


@pytest.mark.parametrize("name", [section[0] for section in SECTIONS])
def test_every_section_of_the_page_has_figures(name: str) -> None:
    """A section without a file would say that nothing was measured."""
    assert json.loads((FIGURES / f"{name}.json").read_text())


def test_the_table_of_the_readme_is_made_of_the_figures_in_the_repository() -> None:
    """The README shows the speeds that `make bench` measured last."""
    shown = (DOCS.parent / "README.md").read_text().partition(BEGIN)[2].partition(END)[0]
    assert shown == short(json.loads((FIGURES / "speed.json").read_text())) + "\n"


def test_goals_name_the_contenders_that_were_measured() -> None:
    """A run without Flink SQL and Pathway has no goal for them; a run with them has."""
    few = {"bare consume loop": 100.0, "funnelwatch": 90.0, "Bytewax": 9.0}
    many = few | {"Flink SQL": 20.0, "Pathway": 30.0}
    lines = [
        goals.table({"speed": {"results": [{"contender": name, "per_second": rate} for name, rate in rates.items()]}})
        for rates in (few, many)
    ]

    assert "Flink SQL" not in lines[0]
    assert "Pathway" not in lines[0]
    assert "| times as fast as Flink SQL | 4 | 4.50 | met |" in lines[1]
    assert "| times as fast as Pathway | 4 | 3.00 | **missed** |" in lines[1]


def test_a_contender_that_cannot_run_here_is_named_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without Java and the environments of the others the bench says what is missing, and measures the rest."""
    monkeypatch.setenv("PATH", "")

    found = contenders(tmp_path)

    assert list(found)[:2] == [BARE, OURS]
    lines = capsys.readouterr().err.splitlines()
    for name, missing in {
        "Quix Streams": tmp_path,
        "Bytewax": tmp_path,
        "Pathway": tmp_path / "pathway",
        "Kafka Streams": "javac",
        "Flink SQL": "javac",
    }.items():
        assert name not in found
        assert any(line.startswith(f"NOT MEASURED: {name}: {missing} is missing") for line in lines)
