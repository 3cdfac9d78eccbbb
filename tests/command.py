"""The command line, run by tests: in this process, or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from funnelwatch.cli.commands import cli
from funnelwatch.program import PROGRAM
from funnelwatch.schemas.settings import PREFIX, Settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def environment(settings: Settings) -> dict[str, str]:
    """Environment variables that make these settings."""
    given = {PREFIX + name.upper() for name in settings.model_fields_set}
    return {name: value for name, value in settings.environment().items() if name in given}


def run(settings: Settings, *args: str, stdin: str | None = None) -> Result:
    """Run a command in this process, with its stdout and stderr apart."""
    load_settings.cache_clear()
    try:
        return CliRunner().invoke(cli, args, input=stdin, env=environment(settings))
    finally:
        load_settings.cache_clear()


def succeed(settings: Settings, *args: str) -> str:
    """The stdout of a command that must succeed."""
    result = run(settings, *args)
    assert result.exit_code == 0, result.output
    return result.stdout


def succeed_json(settings: Settings, *args: str) -> Any:
    """The one JSON object that a command prints with ``--json``."""
    return json.loads(succeed(settings, *args, "--json"))


def start(settings: Settings, *args: str, out: Path) -> subprocess.Popen[bytes]:
    """A command in a process of its own, which the caller ends; stdout goes to ``out``, stderr to ``out``.err."""
    with out.open("wb") as stdout, out.with_name(f"{out.name}.err").open("wb") as stderr:
        return subprocess.Popen(
            [*PROGRAM, *args], env={**os.environ, **environment(settings)}, stdout=stdout, stderr=stderr
        )
