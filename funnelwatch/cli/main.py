"""The entry point. It imports next to nothing, so that Ctrl-C is in hand while the rest is imported."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> None:
    """Run a command; Ctrl-C ends it as click does, also before click is there."""
    try:
        importlib.import_module("funnelwatch.cli.commands").run(args)
    except KeyboardInterrupt:
        sys.stderr.write("\nAborted!\n")
        sys.exit(1)
