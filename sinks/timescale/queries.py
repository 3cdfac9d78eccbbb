"""SQL by name: every statement of this package stands in a ``.sql`` file below ``queries/``.

A query begins with ``-- name: NAME`` and a one-line description; parameters are psycopg's ``%(name)s``.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final, LiteralString

_NAME = re.compile(r"^-- name: (\w+)\n-- (.+)$", re.MULTILINE)


def parse_queries(text: str) -> dict[str, LiteralString]:
    """The statements of one file by name.

    Raises:
        ValueError: a name stands twice.
    """
    queries: dict[str, LiteralString] = {}
    found = list(_NAME.finditer(text))
    for this, following in zip(found, [*found[1:], None], strict=True):
        name = this.group(1)
        if name in queries:
            raise ValueError(f"query {name} stands twice")
        statement = text[this.end() : following.start() if following else len(text)].strip().rstrip(";")
        # It is a literal: it comes from a file of this package, and nothing is ever put into it.
        queries[name] = statement
    return queries


def _load() -> dict[str, LiteralString]:
    folder = files(__package__) / "queries"
    texts = [entry.read_text() for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)]
    return parse_queries("\n".join(texts))


QUERIES: Final = _load()
"""Name to statement, over all files; a name is unique."""
