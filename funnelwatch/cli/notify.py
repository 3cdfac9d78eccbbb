"""``funnelwatch notify``: notify people and systems of alerts, on the routes of a file."""

from __future__ import annotations

import json
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from funnelwatch.cli.errors import clear_errors, opened
from funnelwatch.format import clock, printable
from funnelwatch.producers.kafka.log_throttle import throttle_root
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.settings import Settings, load_settings
from funnelwatch.schemas.times import iso
from funnelwatch.sinks.alerts import metrics
from funnelwatch.sinks.alerts.delivery import Outcome
from funnelwatch.sinks.alerts.notifier import Notifier
from funnelwatch.sinks.alerts.routes import RoutesFileError, load_routes
from funnelwatch.sinks.alerts.sample import sample
from funnelwatch.sinks.alerts.texts import headline
from funnelwatch.sinks.timescale.notifications import NotificationQueue
from funnelwatch.web.serving import MetricsServer

if TYPE_CHECKING:
    from funnelwatch.sinks.alerts.receiver import Receiver

FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(invoke_without_command=True)
@click.option("--routes", "file", type=FILE, help="File of routes; by default FUNNELWATCH_NOTIFY_PATH.")
@click.option(
    "--web-port", type=click.IntRange(0, 65535), help="Port of /metrics; 0: none. By default FUNNELWATCH_NOTIFY_PORT."
)
@click.pass_context
def notify(ctx: click.Context, file: Path | None, web_port: int | None) -> None:
    r"""Notify people and systems of alerts: Alertmanager, PagerDuty, email, Slack, webhooks.

    Reads the topic of alerts and delivers on the routes of one YAML file (docs/notify.md). Each route has a worker of
    its own: a route that is down delays only itself. The database logs each sent message, so a restart neither
    repeats nor forgets one. Any number of notifiers may run; one of them serves a route at a time. Ends with Ctrl-C.

    \b
    Examples:
      funnelwatch notify check notify.yml
      funnelwatch notify --routes notify.yml
      funnelwatch notify --routes notify.yml test on-call
      funnelwatch notify log --last 5
    """
    settings = load_settings()
    ctx.obj = file or settings.notify_path
    if ctx.invoked_subcommand is not None:
        return
    routes = _loaded(_named(ctx.obj))
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    throttle_root("funnelwatch.sinks.alerts.notifier", only_connection=True)
    port = settings.notify_port if web_port is None else web_port
    if port:
        try:
            MetricsServer(settings, port, metrics.REGISTRY)
        except OSError as error:
            raise click.ClickException(
                f"port {port} of {settings.web_host}: {error.strerror}; choose another with --web-port"
            ) from error
    notifier = Notifier(settings, routes, wall_clock_ms)

    def stop(_signal: int, _frame: Any) -> None:
        notifier.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with clear_errors(settings):
        notifier.run()


@notify.command()
@click.argument("file", type=FILE, required=False)
@click.pass_obj
def check(given: Path | None, file: Path | None) -> None:
    r"""Validate a file of routes, and send nothing.

    \b
    Example:
      funnelwatch notify check notify.yml
    """
    for route in _loaded(_named(file or given)):
        asked = {name: value for name, value in route.when.model_dump().items() if value}
        click.echo(f"{route.name}: {type(route).__name__.lower()}, {json.dumps(asked) if asked else 'every alert'}")


@notify.command()
@click.argument("route")
@click.option("--resolve", is_flag=True, help="Send that it is resolved, too.")
@click.pass_obj
def test(given: Path | None, route: str, *, resolve: bool) -> None:
    r"""Send a test alert on a route now, past its filters; the alert is marked as a test, and is not logged.

    \b
    Example:
      funnelwatch notify test on-call --resolve
    """
    routes = {one.name: one for one in _loaded(_named(given))}
    if route not in routes:
        raise click.UsageError(f"there is no route {route}; the file has {', '.join(routes)}")
    firing = sample("firing", wall_clock_ms())
    _try(routes[route], firing, None)
    if resolve:
        _try(routes[route], sample("resolved", wall_clock_ms()), firing)


@notify.command()
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="How many messages to show.")
@click.option("--route", help="Only those of this route.")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object a line.")
def log(*, last: int, route: str | None, to_json: bool) -> None:
    r"""Show notifications with recipient and outcome, oldest first; times are UTC.

    \b
    Example:
      funnelwatch notify log --last 5 --route on-call
    """
    settings: Settings = load_settings()
    with opened(settings) as database:
        rows = NotificationQueue(database).recent(last, route)
    for row in reversed(rows):
        alert, outcome = row["alert"], row["outcome"] or "waiting"
        at = row["decided_ms"] or row["queued_ms"]
        if to_json:
            known = {name: alert[name] for name in ("alert_id", "sequence", "state", "severity", "rule")}
            notification = {
                "route": row["route"],
                "outcome": outcome,
                "attempts": row["attempts"],
                "answer": row["answer"],
            }
            click.echo(json.dumps({"at": iso(at), **notification, **known}))
        else:
            click.echo(f"{clock(at)}  {row['route']}  {outcome}  {headline(alert)}")
            if row["answer"] and outcome != "sent":
                click.echo(f"    after {row['attempts']} attempts: {printable(row['answer'])}")
    if not rows and not to_json:
        click.echo("no notifications yet", err=True)


def _try(route: Receiver, alert: dict[str, Any], previous: dict[str, Any] | None) -> None:
    answer = route.deliver(alert, previous, wall_clock_ms())
    if answer.outcome is not Outcome.SENT:
        raise click.ClickException(f"route {route.name}: {alert['state']}: {answer.text}")
    click.echo(f"route {route.name}: {alert['state']}: {answer.text}")


def _named(file: Path | None) -> Path:
    if file is None:
        raise click.UsageError("name a file of routes: --routes FILE, or FUNNELWATCH_NOTIFY_PATH")
    return file


def _loaded(file: Path) -> list[Receiver]:
    try:
        return load_routes(file)
    except RoutesFileError as error:
        raise click.ClickException(str(error)) from error
