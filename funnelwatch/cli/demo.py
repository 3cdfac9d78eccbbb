"""``funnelwatch demo``."""

from __future__ import annotations

import importlib
import signal
import sys
import time
from pathlib import Path
from typing import Any

import click

from funnelwatch.cli.dimension import dimension_option


@click.command()
@click.option(
    "--kafka",
    type=click.Choice(["auto", "apache", "tansu"]),
    default="auto",
    show_default=True,
    help="Apache Kafka needs Java 17 and Maven; Tansu needs nothing; auto takes Apache Kafka where it works.",
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Worker processes.")
@click.option(
    "--exit-when-done", is_flag=True, help="End when the alert has resolved; else the demo runs until Ctrl-C."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object to stdout.")
@click.option("--window", "window_s", type=click.IntRange(10, 300), help="Length of a window, s.")
@dimension_option
@click.option("--keep", is_flag=True, help="Keep data and logs in the data folder at the end.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Save the screen as SVG at the alert.")
def demo(**options: Any) -> None:
    r"""Show the whole pipeline at work: history, live traffic, an incident, its alert, recovery.

    Starts its own Kafka, PostgreSQL, Redis, workers and board under the data folder, all on 127.0.0.1. At the end the
    demo stops them and removes their data; a failed demo keeps data and logs. Eight days of history are backfilled
    first, so that the detector has a baseline. The exit code is 1 if an event was lost or counted twice, or if no
    alert came.

    \b
    Examples:
      funnelwatch demo
      funnelwatch demo --exit-when-done --json
      funnelwatch demo --dimension country=DE:0.5,AT:0.3,CH:0.2 --dimension plan=free,paid
    """
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    # Loading the packages takes a second, and many on a busy machine: this line appears before.
    click.echo("   0.0 s  Loading funnelwatch …", err=True)
    session = importlib.import_module("funnelwatch.demo.session")
    sys.exit(session.run_session(began=began, **options))


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt
