"""Every command explains itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from funnelwatch.cli.commands import COMMANDS, cli

if TYPE_CHECKING:
    from collections.abc import Iterator


def below(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The path of a command and of all below it."""
    yield path
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from below(child, (*path, name))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_an_example(name: str) -> None:
    """``--help`` of a command, and of all commands below it, exits with 0 and shows the command at work."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    for path in below(command, (name,)):
        result = CliRunner().invoke(cli, [*path, "--help"], prog_name="funnelwatch")
        assert result.exit_code == 0, result.output
        _, example, commands = result.output.partition("Example")
        assert example, f"{' '.join(path)} has no example"
        lines = [line.strip() for line in commands.splitlines()]
        assert any(f"funnelwatch {' '.join(path)}" in line for line in lines), f"{' '.join(path)}: example of another"


def test_help_lists_every_command() -> None:
    """A command of the table is found by who asks for help."""
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    listed = {line.split()[0] for line in result.output.partition("Commands:")[2].splitlines() if line.strip()}
    assert listed >= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_the_group_says_what_the_command_says(name: str) -> None:
    """The table's line, for which no command is imported, is the first sentence of the command's own help."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.get_short_help_str(limit=200) == COMMANDS[name].summary
