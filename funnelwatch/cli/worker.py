"""``funnelwatch worker``."""

from __future__ import annotations

import signal
import sys
from typing import Any

import click

from funnelwatch.alert_rules.loader import RuleFileError, load_rules
from funnelwatch.deploy.supervisor import Supervisor
from funnelwatch.schemas.funnels import FunnelsFileError, load_funnels
from funnelwatch.schemas.kafka_config import KafkaConfigError
from funnelwatch.schemas.settings import PREFIX, load_settings
from funnelwatch.stream.worker.broker_credentials import broker_credentials
from funnelwatch.web.serving import listening

LAST_PORT = 65535


@click.command()
@click.option("--processes", "-n", type=click.IntRange(1), default=1, show_default=True, help="Worker processes.")
@click.option(
    "--web-port", type=click.IntRange(0, LAST_PORT), help="Port of the first one's /healthz and /metrics; 0: free ones."
)
@click.option("--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]), help="Log level of the workers.")
def worker(processes: int, web_port: int | None, log_level: str | None) -> None:
    r"""Run stream workers: count events, close windows, evaluate rules, publish alerts.

    Each process is a Faust worker (`faust -A funnelwatch.stream.app worker` runs one without supervision); a process
    that dies is restarted. Workers on all machines share the partitions of the topics; workers beyond the partition
    count sit idle. Workers wait for Kafka, the database or Redis during an outage.

    \b
    Example:
      funnelwatch up
      funnelwatch worker --processes 2
    """
    settings = load_settings()
    try:
        load_rules(settings.rules_path)
        load_funnels(settings.funnels_path)
    except (RuleFileError, FunnelsFileError) as error:
        raise click.ClickException(str(error)) from error
    try:
        broker_credentials(settings.revealed_kafka_config)
    except KafkaConfigError as error:
        click.echo(f"Error: {PREFIX}KAFKA_CONFIG: {error}", err=True)
        sys.exit(2)
    first_port = settings.web_port if web_port is None else web_port
    _check_ports(settings.web_host, first_port, processes)
    supervisor = Supervisor(
        processes,
        web_port=first_port,
        report=lambda line: click.echo(line, err=True),
        log_level=log_level or settings.log_level,
    )

    def stop(_signal: int, _frame: Any) -> None:
        supervisor.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    supervisor.run()


def _check_ports(host: str, first: int, processes: int) -> None:
    """Check the ports first: a worker without its port would only restart forever.

    Raises:
        click.ClickException: a port is in use.
    """
    if first + processes - 1 > LAST_PORT:
        raise click.ClickException(
            f"{processes} processes need ports up to {first + processes - 1}, and {LAST_PORT} is the last"
        )
    for port in range(first, first + processes) if first else ():
        try:
            listening(host, port).close()
        except OSError as error:
            raise click.ClickException(
                f"cannot listen at {host}, port {port}: {error.strerror or error}. If another worker runs here, name "
                "other ports with --web-port (0: free ones), or run one `funnelwatch worker` with more --processes"
            ) from error
