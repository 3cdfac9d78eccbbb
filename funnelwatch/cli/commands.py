"""``funnelwatch``: one command group, each command in a module of its own that is imported when it is asked for."""

from __future__ import annotations

import importlib
import io
import sys
from typing import TYPE_CHECKING

import click
from pydantic import ValidationError

from funnelwatch.schemas import redacted_output
from funnelwatch.schemas.redaction import redacted
from funnelwatch.schemas.settings import explain

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "up": "stack:up",
    "status": "stack:status",
    "down": "stack:down",
    "doctor": "doctor:doctor",
    "demo": "demo:demo",
    "worker": "worker:worker",
    "simulate": "simulate:simulate",
    "produce": "produce:produce",
    "board": "board:board",
    "collector": "collector:collector",
    "collector-key": "collector:collector_key",
    "rate": "rate:rate",
    "metrics": "metrics:metrics",
    "alerts": "alerts:alerts",
    "rules": "rules:rules",
    "silence": "silence:silence",
    "notify": "notify:notify",
    "exporter": "exporter:exporter",
    "bridge": "bridge:bridge",
    "dead-letters": "dead_letters:dead_letters",
    "rebuild": "rebuild:rebuild",
}
"""Command name to ``module:attribute`` below this package, in the order in which help lists them."""


class Commands(click.Group):
    """The commands of the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(f"funnelwatch.cli.{module}"), attribute)
        mark_blocks(command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was asked for; no message of an error shows a secret."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = redacted(error.message)
            raise


def mark_blocks(command: click.Command) -> None:
    """Give click the character that keeps the lines of an example, which raw docstrings write as two."""
    command.help = command.help and command.help.replace("\\b\n", "\b\n")
    for part in getattr(command, "commands", {}).values():
        mark_blocks(part)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="funnelwatch")
def cli() -> None:
    """Watch the conversion of a sign-up funnel: events in, windowed counts and rates out, alerts when a step drops.

    Start with `funnelwatch demo`. Settings are environment variables FUNNELWATCH_…, listed in docs/settings.md.
    """


def run(args: Sequence[str] | None = None) -> None:
    """Run a command; a wrong setting is one clear line and exit code 2, not a traceback."""
    redacted_output.install()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not in UTF-8 shows ? for a bar
    try:
        cli.main(args=args, prog_name="funnelwatch")
    except ValidationError as error:
        for fault in explain(error):
            click.echo(f"Error: {fault}", err=True)
        sys.exit(2)
    except UnicodeEncodeError as error:
        if error.reason != "surrogates not allowed":
            raise
        click.echo(f"Error: {redacted(repr(error.object))} is no text in UTF-8", err=True)
        sys.exit(2)
