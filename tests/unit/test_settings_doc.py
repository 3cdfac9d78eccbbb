"""docs/settings.md says what schemas/settings.py says."""

from __future__ import annotations

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
