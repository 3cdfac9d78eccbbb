"""docs/errors.md draws the errors of the code, and every error is one of funnelwatch's."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

from funnelwatch.errors_doc import PLACE, document
from funnelwatch.schemas.errors import FunnelwatchError

ROOT = Path(__file__).parents[2]
FOLDERS = ("schemas", "alert_rules", "producers", "sinks", "stream", "deploy", "funnelwatch")


def test_the_page_is_what_the_code_makes_of_it() -> None:
    """Whoever adds an error runs ``python -m funnelwatch.errors_doc``."""
    assert document() == (ROOT / PLACE).read_text()


def test_no_error_derives_from_a_builtin_alone() -> None:
    """A user catches all errors of funnelwatch by one name."""
    assert FunnelwatchError.__bases__ == (Exception,)
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef) and node.bases and node.name != "FunnelwatchError":
                    names = [base.id for base in node.bases if isinstance(base, ast.Name)]
                    found = [getattr(builtins, name, None) for name in names]
                    builtin = [one for one in found if isinstance(one, type) and issubclass(one, BaseException)]
                    assert not builtin or "FunnelwatchError" in names, f"{file}: {node.name}"
