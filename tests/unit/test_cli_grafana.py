"""``funnelwatch grafana dashboards``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from funnelwatch.schemas.settings import Settings
from tests.command import run, succeed
from tests.grafana import FOLDER, NAMES

if TYPE_CHECKING:
    from pathlib import Path

FUNNELS = """
funnels:
  checkout: {steps: [CART, PAY], dimensions: [country, os]}
  sign_up: {steps: [NAME], dimensions: [os, plan]}
"""


def written(folder: Path) -> dict[str, str]:
    """The files of a folder."""
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_without_a_funnels_file_the_dashboards_of_the_repository_are_written(tmp_path: Path) -> None:
    """The built-in funnel has the dimensions of the files that are checked in; the folder is created."""
    out = tmp_path / "new" / "dashboards"
    printed = succeed(Settings(), "grafana", "dashboards", "--out", str(out))
    assert written(out) == written(FOLDER)
    assert printed.splitlines()[-1] == "dimensions: os, browser, app_version"
    assert {str(out / f"{name}.json") for name in NAMES} == set(printed.splitlines()[:-1])


def test_every_dimension_of_a_declared_funnel_is_a_filter(tmp_path: Path) -> None:
    """From the file that is named, or from the one in use; files of an earlier run are replaced."""
    path, out = tmp_path / "funnels.yml", tmp_path / "out"
    path.write_text(FUNNELS)
    succeed(Settings(), "grafana", "dashboards", "--out", str(out))
    before = written(out)
    named = succeed(Settings(), "grafana", "dashboards", "--out", str(out), "--funnels", str(path))
    assert named.splitlines()[-1] == "dimensions: country, os, plan"
    for name in ("funnel.json", "step.json"):
        assert written(out)[name] != before[name]
        variables = [one["name"] for one in json.loads(written(out)[name])["templating"]["list"]]
        assert variables == ["level", "funnel", "step", "country", "os", "plan", "dimension", "by"]
    other = tmp_path / "other"
    succeed(Settings(funnels_path=path), "grafana", "dashboards", "--out", str(other))
    assert written(other) == written(out)


def test_an_invalid_funnels_file_writes_nothing(tmp_path: Path) -> None:
    """The error names file, line and field."""
    path, out = tmp_path / "funnels.yml", tmp_path / "out"
    path.write_text("funnels:\n  checkout: {steps: [CART], dimensions: [Country]}\n")
    found = run(Settings(), "grafana", "dashboards", "--out", str(out), "--funnels", str(path))
    assert found.exit_code == 1
    assert "funnels.yml:2" in found.stderr
    assert "Country" in found.stderr
    assert not out.exists()


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    """The error names the folder."""
    (tmp_path / "file").write_text("")
    found = run(Settings(), "grafana", "dashboards", "--out", str(tmp_path / "file" / "out"))
    assert found.exit_code == 1
    assert found.stderr.splitlines() == [f"Error: {tmp_path / 'file' / 'out'}: Not a directory"]
