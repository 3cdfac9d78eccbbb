"""Writes ``docs/errors.md``, the tree of errors, from the code: ``python -m funnelwatch.errors_doc``."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import funnelwatch
from funnelwatch.schemas.errors import FunnelwatchError

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACE = Path("docs/errors.md")

INTRODUCTION = """\
# Errors

<!-- Made from the code by `python -m funnelwatch.errors_doc`; edits here are overwritten. -->

Every error of funnelwatch derives from `FunnelwatchError`. Errors of libraries pass through as they are.

"""
NOT_IMPORTED = (
    "funnelwatch.stream.app",
    "funnelwatch.stream.__main__",
    "funnelwatch.deploy.grafana",
)
"""Modules that start something when they are imported, or need the tools of development; they define no error."""


def document() -> str:
    """The page, Markdown: each error with its module and the first sentence of its docstring, below its base."""
    for module in pkgutil.walk_packages(funnelwatch.__path__, "funnelwatch."):
        if not module.name.startswith(NOT_IMPORTED):
            importlib.import_module(module.name)
    return INTRODUCTION + "\n".join(_lines(FunnelwatchError, 0)) + "\n"


def _lines(error: type[FunnelwatchError], depth: int) -> Iterator[str]:
    sentence = " ".join((inspect.getdoc(error) or "").split("\n\n")[0].split())
    others = [base.__name__ for base in error.__bases__ if not issubclass(base, FunnelwatchError)]
    also = f" (a `{others[0]}`)" if others and others != ["Exception"] else ""
    yield f"{'  ' * depth}- `{error.__name__}`{also}: {sentence} `{error.__module__}`"
    for below in sorted(error.__subclasses__(), key=lambda one: one.__name__):
        if below.__module__.startswith("funnelwatch.") and not below.__name__.startswith("_"):
            yield from _lines(below, depth + 1)


if __name__ == "__main__":
    if not PLACE.parent.is_dir():
        sys.exit(f"{PLACE.parent} is not here: run this in the root of a checkout")
    PLACE.write_text(document())
