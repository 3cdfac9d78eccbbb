"""One demo in a terminal: progress lines, the live screen, the result and the exit code."""

from __future__ import annotations

import io
import json
import re
import signal
import time
from dataclasses import replace
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
from funnelwatch.producers.simulate.profile import SIGN_UP_PROFILE
from funnelwatch.schemas.settings import load_settings
from funnelwatch.sinks.redis.client import NO_REDIS

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from funnelwatch.deploy.embedded.stack import Kafka
    from funnelwatch.producers.simulate.profile import Dimension

INTERRUPTED = 130
FRAMES_PER_SECOND = 4


def run_session(
    *,
    began: float,
    kafka: str,
    workers: int,
    exit_when_done: bool,
    as_json: bool,
    window_s: int | None,
    dimensions: tuple[Dimension, ...],
    keep: bool,
    picture: Path | None,
) -> int:
    """Run a demo and return its exit code.

    Args:
        began: start of the command, by the monotonic clock, s; progress lines show the time since.
        kafka: which broker.
        workers: number of worker processes.
        exit_when_done: end after the recovery, not at Ctrl-C.
        as_json: print the result as JSON to stdout.
        window_s: length of a window, s; None: the plan's.
        dimensions: further dimensions of the traffic.
        keep: keep data and logs.
        picture: file for an SVG of the screen at the alert.

    Raises:
        click.UsageError: two dimensions have the same name.
        click.ClickException: the demo fails; the message names the kept logs.
    """
    plan = _plan(window_s, dimensions)
    console = Console(stderr=True)
    data_dir = (load_settings().data_dir / "demo").absolute()

    def say(line: str) -> None:
        text = f"{time.monotonic() - began:6.1f} s  {line}" if "\n" not in line else line
        live.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def screen() -> RenderableType:
        seen = run.watch.seen if run.watch else Seen()
        produced = run.traffic.produced if run.traffic else 0
        elapsed = f"{run.happening} ({time.monotonic() - run.happening_since:.0f} s)"
        return render("funnelwatch demo", elapsed, seen, produced, run.per_second)

    def observe(run: Demo) -> None:
        if picture and run.watch and not picture.exists() and run.alerts("firing") and shows_drop(run.watch.seen):
            save(screen(), picture)

    run = Demo(
        data_dir=data_dir,
        kafka=cast("Kafka", kafka),
        workers=workers,
        plan=plan,
        say=say,
        observe=observe,
        browse=console.is_terminal and not exit_when_done,
        keep=keep,
    )
    # In a terminal the screen appears at once and shows the running step; a file gets the progress lines only.
    live = Live(
        console=console,
        get_renderable=screen if console.is_terminal else None,
        auto_refresh=console.is_terminal,
        refresh_per_second=FRAMES_PER_SECOND,
        vertical_overflow="visible",
    )
    result: dict[str, Any] | None = None
    interrupted = False
    with live:
        try:
            run.run(forever=not exit_when_done)
            result = run.result()
            run.keep = keep or not result["ok"]
        except KeyboardInterrupt:
            interrupted = True
            say("Ending …")
        except (StackError, DemoError, TrafficError, KafkaUnreachable) as error:
            run.keep = True
            raise click.ClickException(f"{error}\nThe data and logs of this demo are in {data_dir}") from error
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            run.close()
    if result is None:
        # Ctrl-C is the usual end of an endless demo; a demo that ends by itself was cut short.
        return INTERRUPTED if interrupted and exit_when_done else 0
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        click.echo(_summary(result), err=True)
    return 0 if result["ok"] else 1


def _plan(window_s: int | None, dimensions: tuple[Dimension, ...]) -> Plan:
    try:
        plan = Plan(profile=replace(SIGN_UP_PROFILE, dimensions=dimensions))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return replace(plan, window_s=window_s) if window_s else plan


def save(screen: RenderableType, picture: Path) -> None:
    """Save the screen as an SVG."""
    recorder = Console(record=True, width=112, file=io.StringIO())
    recorder.print(screen)
    svg = recorder.export_svg(title="make demo")
    # rich links fonts on another server; the picture works without a network.
    picture.write_text(re.sub(r"@font-face\s*{[^}]*}", "", svg))


def _summary(result: dict[str, Any]) -> str:
    lines = [
        f"{result['kafka']}, {result['database']}, {result['redis'] or NO_REDIS}",
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
    lines += [f"ERROR: {error}" for error in result["errors"]]
    return "\n".join(lines)
