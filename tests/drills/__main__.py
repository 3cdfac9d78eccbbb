"""Run drills: ``python -m tests.drills all --short``."""

from __future__ import annotations

from tests.drills.command import drill

drill(prog_name="python -m tests.drills")
