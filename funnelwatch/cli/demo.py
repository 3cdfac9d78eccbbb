"""``funnelwatch demo``."""

from __future__ import annotations

import io
import json
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from rich.console import Console
from rich.live import Live

from funnelwatch.demo.plan import Plan
from funnelwatch.demo.run import Demo, DemoError
from funnelwatch.demo.screen import render, shows_drop
from funnelwatch.demo.traffic import TrafficError
from funnelwatch.demo.watch import Seen
from funnelwatch.deploy.embedded.errors import StackError
from funnelwatch.producers.kafka.topics import KafkaUnreachable
from funnelwatch.schemas.settings import load_settings

if TYPE_CHECKING:
    from rich.console import RenderableType

    from funnelwatch.deploy.embedded.stack import Kafka

INTERRUPTED = 130


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
    "--exit-when-done", is_flag=True, help="End when the alert has resolved, instead of going on until Ctrl-C."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with the result on stdout.")
@click.option("--window", "window_s", type=click.IntRange(10, 300), help="Length of a window, s.")
@click.option("--keep", is_flag=True, help="Leave data and logs in the data folder at the end.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Save the screen as SVG at the alert.")
def demo(
    *,
    kafka: str,
    workers: int,
    exit_when_done: bool,
    as_json: bool,
    window_s: int | None,
    keep: bool,
    picture: Path | None,
) -> None:
    r"""See the whole pipeline at work: history, live traffic, an incident, its alert, recovery.

    Starts Kafka, PostgreSQL, Redis, workers and a board of its own under the data folder, all on 127.0.0.1. At the end
    it stops them and removes their data; a demo that fails leaves data and logs for a look. Eight days of history are
    backfilled first, so that the detector knows what to expect. The exit code is 1 if an event was lost or counted
    twice, or if no alert came.

    \b
    Examples:
      funnelwatch demo
      funnelwatch demo --exit-when-done --json
    """
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    plan = Plan(window_s=window_s) if window_s else Plan()
    console = Console(stderr=True)
    data_dir = (load_settings().data_dir / "demo").absolute()
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:

        def say(line: str) -> None:
            live.console.print(line, highlight=False, markup=False, soft_wrap=True)

        def draw(run: Demo) -> None:
            seen = run.watch.seen if run.watch else Seen()
            produced = run.traffic.produced if run.traffic else 0
            screen = render("funnelwatch demo", run.happening, seen, produced, run.per_second)
            if console.is_terminal:
                live.update(screen, refresh=True)
            if picture and not picture.exists() and run.alerts("firing") and shows_drop(seen):
                save(screen, picture)

        run = Demo(
            data_dir=data_dir,
            kafka=cast("Kafka", kafka),
            workers=workers,
            plan=plan,
            say=say,
            draw=draw,
            browse=console.is_terminal and not exit_when_done,
            keep=keep,
        )
        result: dict[str, Any] | None = None
        interrupted = False
        try:
            run.run(forever=not exit_when_done)
            result = run.result()
            run.keep = keep or not result["ok"]
        except KeyboardInterrupt:
            interrupted = True
            say("Ending …")
        except (StackError, DemoError, TrafficError, KafkaUnreachable) as error:
            run.keep = True
            raise click.ClickException(f"{error}\nData and logs of this demo stay in {data_dir}") from error
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            run.close()
    if result is None:
        # Ctrl-C is how a demo without end is ended; one that was to end by itself was cut short.
        sys.exit(INTERRUPTED if interrupted and exit_when_done else 0)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        click.echo(_summary(result), err=True)
    sys.exit(0 if result["ok"] else 1)


def save(screen: RenderableType, picture: Path) -> None:
    """Save what the terminal shows as an SVG."""
    recorder = Console(record=True, width=112, file=io.StringIO())
    recorder.print(screen)
    svg = recorder.export_svg(title="make demo")
    # rich names fonts on a server of somebody else's; a picture should need nothing but itself.
    picture.write_text(re.sub(r"@font-face\s*{[^}]*}", "", svg))


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _summary(result: dict[str, Any]) -> str:
    lines = [
        f"{result['kafka']}, {result['database']}, {result['redis']}",
        "{events_produced:,} events produced = {events_counted:,} counted + {dead_letters} dead letters".format(
            **result
        ),
    ]
    if result["alert_after_s"] is not None:
        lines.append(f"alert {result['alert_after_s']:g} s after the incident's start")
    if result["prometheus"] is None:
        lines.append("Prometheus is not installed: nothing is compared with it")
    elif result["prometheus"]["agrees"]:
        rates = ", ".join(f"{step} {rate:.2%}" for step, rate in result["prometheus"]["prometheus"].items())
        lines.append(f"Prometheus agrees with SQL: {rates}")
    lines += [f"FAULT: {fault}" for fault in result["faults"]]
    return "\n".join(lines)
