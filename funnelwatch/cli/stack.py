"""``funnelwatch up``, ``status`` and ``down``: the embedded stack from the command line."""

from __future__ import annotations

import importlib
import json
import shlex
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click

from funnelwatch.deploy.embedded import tansu
from funnelwatch.deploy.embedded.errors import StackError
from funnelwatch.deploy.embedded.stack import Kafka, ServiceStatus, Stack
from funnelwatch.deploy.embedded.state import SERVICES
from funnelwatch.schemas.redaction import redacted
from funnelwatch.schemas.settings import PREFIX, Settings, load_settings
from funnelwatch.sinks.redis.client import NO_REDIS

if TYPE_CHECKING:
    from types import FrameType

    from funnelwatch.deploy.embedded.state import ServiceState

SOMETHING_IS_DOWN = 3


def tell(line: str) -> None:
    """Progress goes to stderr: stdout is for what a program reads."""
    click.echo(redacted(line), err=True)


@click.command()
@click.option(
    "--kafka",
    type=click.Choice(["auto", "apache", "tansu"]),
    help="Apache Kafka needs Java 17 and Maven; Tansu needs nothing and keeps its topics in memory; auto takes Apache "
    "Kafka where it works, else prints the reason.  [default: the last choice for this data folder, first auto]",
)
@click.option("--env", "as_env", is_flag=True, help="Print an export line for the shell instead of the addresses.")
def up(kafka: str | None, as_env: bool) -> None:
    r"""Start Kafka, PostgreSQL and Redis on this machine; running servers are kept.

    Data and logs are in the data folder (FUNNELWATCH_DATA_DIR, .funnelwatch by default). A server that is named by
    FUNNELWATCH_KAFKA_BOOTSTRAP_SERVERS, FUNNELWATCH_TIMESCALE_URL or FUNNELWATCH_REDIS_URL is used instead of one.
    Redis is optional: with an empty FUNNELWATCH_REDIS_URL none is started, and readers read the database.

    Each server has a random password, in files that only this user may read (stack.json and passwords/ in the data
    folder). Commands find them there: in other folders too, once --env has named the data folder to the shell.

    \b
    Examples:
      funnelwatch up
      eval "$(funnelwatch up --env)"
      funnelwatch up --kafka tansu
    """
    _end_like_ctrl_c()
    stack = Stack(load_settings().data_dir, cast("Kafka | None", kafka))
    try:
        before = next(one.state for one in stack.status() if one.service == "kafka")
        state = stack.up(tell)
    except StackError as error:
        raise click.ClickException(str(error)) from error
    if topics_are_new(before, state.services["kafka"]):
        importlib.import_module("funnelwatch.cli.new_topics").count_on(
            Settings(), tell
        )  # which know by now where the servers are
    if as_env:
        click.echo(f"export {PREFIX}DATA_DIR={shlex.quote(str(stack.data_dir))}")
        return
    for service in SERVICES:
        one = state.services[service]
        click.echo(f"{service:<9} {one.shown_url if one.is_used else NO_REDIS}")
    for one in state.services.values():
        if one.is_open and not one.external:
            tell(f"{one.program} {tansu.OPEN}; Apache Kafka, with Java 17 and Maven, asks for one")


def topics_are_new(before: ServiceState | None, now: ServiceState) -> bool:
    """Whether the embedded Kafka that runs now cannot have the topics of the one before."""
    if now.external or (before is not None and (before.pid, before.created) == (now.pid, now.created)):
        return False
    name = now.program.split()[0]
    return name == "tansu" or (before is not None and not before.external and before.program.split()[0] != name)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(as_json: bool) -> None:
    r"""Show the servers of the embedded stack and why each was chosen; the exit code is 3 if a server is down.

    The last line shows whether workers are alive and figures are current; `funnelwatch doctor` shows details.

    \b
    Examples:
      funnelwatch status
      funnelwatch status --json
    """
    settings = load_settings()
    try:
        services = Stack(settings.data_dir).status()
    except StackError as error:
        raise click.ClickException(str(error)) from error
    is_down = any(one.up is False for one in services)
    if as_json:
        click.echo(json.dumps({one.service: _as_json(one) for one in services}, indent=2))
    else:
        for one in services:
            click.echo(_as_text(one))
        if not is_down:
            click.echo(f"{'pipeline':<9} {importlib.import_module('funnelwatch.cli.current').pipeline_line(settings)}")
    if is_down:
        if not as_json:
            tell("Start missing servers with `funnelwatch up`.")
        sys.exit(SOMETHING_IS_DOWN)


@click.command()
@click.option("--purge", is_flag=True, help="Delete the stack's data, logs and state as well.")
def down(purge: bool) -> None:
    r"""Stop the embedded stack; its data stay, except for Tansu's topics, which are in memory.

    Servers that environment variables name are not touched.

    \b
    Examples:
      funnelwatch down
      funnelwatch down --purge
    """
    try:
        stack = Stack(load_settings().data_dir)
        if not any(one.state and one.state.pid for one in stack.status() if one.state and not one.state.external):
            tell(f"nothing of {stack.data_dir} runs")
        stack.down(tell, purge=purge)
    except StackError as error:
        raise click.ClickException(str(error)) from error


def _as_json(one: ServiceStatus) -> dict[str, Any]:
    return {"up": one.up, "error": redacted(one.error), **(one.state.shown() if one.state else {})}


def _as_text(one: ServiceStatus) -> str:
    if one.up is None:
        return f"{one.service:<9} {NO_REDIS}{f': {one.state.why}' if one.state else ''}"
    lines = [f"{one.service:<9} {'up' if one.up else 'DOWN: ' + redacted(one.error)}"]
    if one.state is not None:
        process = f", process {one.state.pid}" if one.up and one.state.pid else ""
        lines[0] += f"  {one.state.program} at {one.state.shown_url}{process}"
        lines += [f"{'':<9} taken because: {one.state.why}"]
        lines += [f"{'':<9} {note}" for note in one.state.notes]
        lines += [f"{'':<9} log: {one.state.log}"] if one.state.log else []
    return "\n".join(lines)


def _end_like_ctrl_c() -> None:
    """TERM and a closed terminal interrupt a start as Ctrl-C does, so that they leave nothing behind either."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupt)
