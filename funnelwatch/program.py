"""How funnelwatch starts itself in another process."""

from __future__ import annotations

import sys

PROGRAM = (sys.executable, "-c", "from funnelwatch.cli.main import main; main()")
"""The command ``funnelwatch`` of this installation, whether or not its folder is on PATH."""
