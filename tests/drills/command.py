"""``python -m tests.drills``, which ``make drill`` runs."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import click

from funnelwatch.deploy.embedded.errors import StackError
from funnelwatch.producers.kafka.topics import KafkaUnreachable
from tests.drills.at_once import run_at_once
from tests.drills.catalog import DRILLS
from tests.drills.drill import DrillError, run_drill
from tests.drills.plan import Plan, short
from tests.drills.servers import Servers
from tests.drills.traffic import TrafficError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.deploy.embedded.stack import Kafka

INTERRUPTED = 130
ALL = "all"


def list_drills(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    """Print the drills and end."""
    if not wanted or context.resilient_parsing:
        return
    for drill in DRILLS.values():
        click.echo(f"{drill.name:12} {drill.fault}")
    context.exit()


@click.command()
@click.argument("names", nargs=-1, required=True, type=click.Choice([*DRILLS, ALL]), metavar="NAME...")
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=list_drills, help="List the drills.")
@click.option("--seed", type=int, default=1, show_default=True, help="Decides the events, and when what happens.")
@click.option("--events", type=click.IntRange(100), help="Records to produce.  [default: 300000]")
@click.option("--faults", type=click.IntRange(1), help="How many faults.  [default: what the drill does]")
@click.option("--workers", type=click.IntRange(1), help="Worker processes.  [default: 3]")
@click.option(
    "--kafka",
    type=click.Choice(["apache", "auto", "tansu"]),
    default="apache",
    show_default=True,
    help="Guarantees are those of Apache Kafka.",
)
@click.option("--short", "is_short", is_flag=True, help="Few events and faults, short times: some seconds a drill.")
@click.option("--at-once", type=click.IntRange(1), default=1, show_default=True, help="How many run at the same time.")
@click.option("--keep", is_flag=True, help="Leave the folder with the workers' logs, and say where it is.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a drill on stdout.")
def drill(
    *,
    names: tuple[str, ...],
    seed: int,
    events: int | None,
    faults: int | None,
    workers: int | None,
    kafka: str,
    is_short: bool,
    at_once: int,
    keep: bool,
    as_json: bool,
) -> None:
    r"""Prove that every event is counted exactly once: cause faults, then compare with a ledger, key by key.

    NAME is a drill (see --list) or `all`. A drill starts Kafka, PostgreSQL, Redis and workers of its own on 127.0.0.1,
    produces events that it knows, makes faults happen meanwhile at times that the seed decides, waits until the
    pipeline is idle and compares. It never touches servers that are configured. The exit code is 1 if anything was
    lost, double or wrong, or an alert came twice.

    \b
    Examples:
      python -m tests.drills kill --seed 7
      python -m tests.drills all --short
      python -m tests.drills all --at-once 2
      python -m tests.drills redis database --events 50000 --json
    """
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    chosen = list(DRILLS) if ALL in names else list(dict.fromkeys(names))
    if at_once > 1 and len(chosen) > 1:
        _end(_at_once(chosen, at_once))
        return
    plan = Plan(seed=seed)
    if is_short:
        plan = short(plan)
    given: dict[str, Any] = {"events": events, "faults": faults, "workers": workers}
    plan = replace(plan, **{name: value for name, value in given.items() if value is not None})
    failed = []
    try:
        with Servers(cast("Kafka", kafka), _say, keep=keep) as servers:
            for name in chosen:
                result = run_drill(DRILLS[name], plan, servers, _say)
                click.echo(json.dumps(result) if as_json else _summary(result))
                if not result["ok"]:
                    failed.append(name)
    except KeyboardInterrupt:
        click.echo("interrupted; everything is ended", err=True)
        sys.exit(INTERRUPTED)
    except (StackError, DrillError, TrafficError, KafkaUnreachable) as error:
        raise click.ClickException(str(error)) from error
    _end(failed)


def _end(failed: Sequence[str]) -> None:
    if failed:
        click.echo(f"not as promised: {', '.join(failed)}", err=True)
        sys.exit(1)


def _at_once(names: Sequence[str], count: int) -> list[str]:
    """Run drills at the same time, each with this command's options; those that failed."""
    context = click.get_current_context()
    options = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if isinstance(parameter, click.Option) and parameter.name != "at_once" and value not in (None, False):
            options += [parameter.opts[-1]] if parameter.is_flag else [parameter.opts[-1], str(value)]
    try:
        codes = run_at_once(names, options, count, _say, click.echo)
    except KeyboardInterrupt:
        click.echo("interrupted; everything is ended", err=True)
        sys.exit(INTERRUPTED)
    return [name for name in names if codes[name]]


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    click.echo(line, err=True)


def _summary(result: dict[str, Any]) -> str:
    verdict = (
        "{lost} lost, {double} double, {wrong} wrong, {alerts_duplicated} alerts duplicated; "
        "longest stall {longest_stall_s:g} s".format(**result)
    )
    what = (
        "{records:,} records ({events:,} events, {duplicates:,} repetitions, {dead_letters:,} dead letters), "
        "{keys:,} keys, {sessions:,} sessions by step, {reached:,} in order, "
        "{windows} windows ({windows_revised} revised), {alerts} messages of alerts".format(**result)
    )
    faults = ", ".join(f"{count} x {name}" for name, count in result["faults"].items())
    lines = [
        f"{result['drill']:12} {'ok' if result['ok'] else 'NOT AS PROMISED'}: {verdict}",
        f"{'':12} {what}",
        f"{'':12} {faults}",
        "{0:12} {kafka}, {workers} workers, {partitions} partitions, seed {seed}, {seconds:g} s".format("", **result),
    ]
    if "rolling_restart_gap_s" in result:
        gap = (
            "longest gap of the rolling restart {rolling_restart_gap_s:g} s; a worker left within {longest_leave_s:g} s"
        )
        lines.append(f"{'':12} {gap.format(**result)}")
    return "\n".join(lines + [f"{'':12} FAULT: {note}" for note in result["notes"]])
