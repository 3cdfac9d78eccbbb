"""docs/settings.md says what schemas/settings.py says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from funnelwatch.schemas.settings import PREFIX, Settings
from funnelwatch.settings_doc import PLACE, document

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_settings_make_of_it() -> None:
    """Whoever changes a setting runs ``python -m funnelwatch.settings_doc``."""
    assert document() == (ROOT / PLACE).read_text()


def test_every_setting_stands_on_the_page_once_with_its_sentence() -> None:
    """No setting is forgotten, whatever the source looks like."""
    rows = [line for line in document().splitlines() if line.startswith("| `")]
    for name, field in Settings.model_fields.items():
        assert field.description
        found = [row for row in rows if f"`{PREFIX}{name.upper()}`" in row]
        assert len(found) == 1
        assert field.description in found[0]
    assert len(rows) == len(Settings.model_fields)


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    """It is written below the current folder, and a folder without docs is told."""
    command = [sys.executable, "-m", "funnelwatch.settings_doc"]
    rejected = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (rejected.returncode, "docs is not here" in rejected.stderr) == (1, True)
    (tmp_path / "docs").mkdir()
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / PLACE).read_text() == document()
