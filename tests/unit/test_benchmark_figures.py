"""Figures in the docs are those of the files that the benchmarks wrote."""

from __future__ import annotations

import json

import pytest

from tests.bench.page import BEGIN, DOCS, END, FIGURES, SECTIONS, page, short


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
