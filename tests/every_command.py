"""Runs every command there is, each in a process of its own, and keeps what it prints.

``python -m tests.every_command FOLDER`` tries the cases of ``FOLDER/cases.json``: of each, the environment variables
that it adds and whether it is brief. The program finds the commands by walking click's tree, so it runs a new one as
well. It imports all of them once and forks a process for each call; the calls of all cases share the waits for servers
that are away.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from funnelwatch.cli import doctor_services, rebuild_progress
from funnelwatch.cli.commands import cli, run
from funnelwatch.deploy.embedded import external, stack
from funnelwatch.producers.kafka import topic_reader

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_ONCE = 24
ENDED_AFTER_S = 6.0
KILLED_AFTER_S = 20.0
OUTPUTS = ("--json", "--csv", "--env", "--check", "--dry-run", "--yes", "--purge", "--resolve", "--follow")
"""Options that make a command print something else, each tried by itself."""


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its path, groups included."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))


def calls(folder: Path, *, brief: bool) -> Iterator[list[str]]:
    """The argument lists to be tried; where it is brief, each command once."""
    for path, command in commands(cli):
        if not brief:
            yield [*path, "--help"]
        given = [value(path, one, folder) for one in command.params if isinstance(one, click.Argument)]
        options = {name for one in command.params if isinstance(one, click.Option) for name in one.opts}
        yield [*path, *given]
        if brief:
            continue
        yield from ([*path, *given, option] for option in OUTPUTS if option in options)
        yield [*path, *given, "--no-such-option"]


def value(path: tuple[str, ...], argument: click.Argument, folder: Path) -> str:
    """Something that an argument takes."""
    if isinstance(argument.type, click.Choice):
        return str(argument.type.choices[0])
    if isinstance(argument.type, click.Path):
        return str(
            folder
            / {"bridge": "bridge.yml", "notify": "notify.yml", "funnels": "funnels.yml"}.get(path[0], "file.jsonl")
        )
    return {"route": "hook", "position": "0:0", "funnel": "sign_up"}.get(str(argument.name), "1")


def start(args: list[str], environ: dict[str, str], out: Path) -> int:
    """Fork a process that runs one command, with a data folder of its own; its id."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    os.environ |= environ
    os.environ["FUNNELWATCH_DATA_DIR"] = str(out.with_suffix(".data"))
    output = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(output, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = 1
    try:
        run(args)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - as Python does it
        sys.excepthook(type(error), error, error.__traceback__)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_all(folder: Path) -> None:
    """Run the calls of all cases; ``FOLDER/CASE/N.txt`` is the output of call N of ``FOLDER/CASE/calls.json``."""
    waiting = []
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        own = folder / name
        own.mkdir()
        tried = list(calls(folder, brief=case["brief"]))
        (own / "calls.json").write_text(json.dumps(tried))
        waiting += [(args, case["environ"], own / f"{number}.txt") for number, args in enumerate(tried)]
    running: dict[int, float] = {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            running[start(*waiting.pop(0))] = time.monotonic()
        for pid, began in list(running.items()):
            if os.waitpid(pid, os.WNOHANG)[0]:
                del running[pid]
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)  # what it may have left behind
            elif time.monotonic() - began > KILLED_AFTER_S:
                os.killpg(pid, signal.SIGKILL)
            elif time.monotonic() - began > ENDED_AFTER_S:
                os.kill(pid, signal.SIGTERM)
        time.sleep(0.05)


if __name__ == "__main__":
    # A server that is away is waited for shortly.
    topic_reader.METADATA_TIMEOUT_S = rebuild_progress.METADATA_TIMEOUT_S = 0.5
    doctor_services.TIMEOUT_S = 1.0
    external.PROBE_S = stack.PROBE_S = 1.0
    assert list(commands(cli))  # imports all
    run_all(Path(sys.argv[1]))
