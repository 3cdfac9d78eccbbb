"""Writes ``docs/settings.md`` from ``funnelwatch.schemas.settings``: ``python -m funnelwatch.settings_doc``."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.settings import PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACE = Path("docs/settings.md")

INTRODUCTION = """\
# Settings

<!-- Made from schemas/settings.py by `python -m funnelwatch.settings_doc`; edits here are overwritten. -->

Every setting is an environment variable. The addresses of Kafka, the database and Redis, where they are not set, are
those of the embedded stack in the data folder if one was started (`funnelwatch up`), else the defaults below.
`funnelwatch doctor` reports invalid settings, and whether each service answers.
"""

KINDS = {
    "SecretStr": "text, a secret",
    "int": "whole number",
    "float": "number",
    "str": "text",
    "dict": "JSON object, a secret",
}
SECTION = re.compile(r"    # (\w.*)")
FIELD = re.compile(r"    (\w+): ")


def document() -> str:
    """The page, Markdown: a table for each group of settings, in the order of the source."""
    lines = [INTRODUCTION]
    for section, names in sections():
        lines += [f"## {section}", "", "| variable | default | what it is |", "|---|---|---|"]
        lines += [row(name) for name in names]
        lines.append("")
    return "\n".join(lines)


def sections() -> Iterator[tuple[str, list[str]]]:
    """The headings in the source of the settings, each with the names of its settings."""
    heading, names = "", list[str]()
    for line in inspect.getsource(Settings).splitlines():
        if found := SECTION.fullmatch(line):
            if names:
                yield heading, names
            heading, names = found[1], []
        elif (found := FIELD.match(line)) and found[1] in Settings.model_fields:
            names.append(found[1])
    yield heading, names


def row(name: str) -> str:
    """One setting as a row of the table."""
    field = Settings.model_fields[name]
    default: Any = field.get_default(call_default_factory=True)
    default = revealed(default) if isinstance(default, SecretStr) else default
    shown = "none" if default is None else "empty" if default in ("", {}) else f"`{default}`"
    limits = "".join(
        f", {word} {getattr(limit, attribute):g}"
        for limit in field.metadata
        for attribute, word in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
        if hasattr(limit, attribute)
    )
    kind = next(
        (word for kind, word in KINDS.items() if kind in str(field.annotation).split("[", maxsplit=1)[0]), "path"
    )
    return f"| `{PREFIX}{name.upper()}` | {shown} | {field.description} ({kind}{limits}) |"


def main() -> None:
    """Write the page, relative to the folder of the project."""
    if not PLACE.parent.is_dir():
        sys.exit(f"{PLACE.parent} is not here; run this in the folder of the project")
    PLACE.write_text(document())


if __name__ == "__main__":
    main()
