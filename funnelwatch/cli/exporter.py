"""``funnelwatch exporter``: funnel counts for Prometheus."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

import click
from prometheus_client import CollectorRegistry

from funnelwatch.cli.faults import Span, clear_faults
from funnelwatch.settings import load_settings
from funnelwatch.web.serving import MetricsServer
from sinks.exporter.collector import FunnelCollector
from sinks.timescale.database import Database, is_outage
from sinks.timescale.migrations import migrate
from sinks.timescale.totals import TotalsStore


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Where it answers; by default FUNNELWATCH_EXPORTER_PORT.")
@click.option("--max-series", type=click.IntRange(1), default=1000, show_default=True,
              help='Series with names of their own; what is beyond is added up under "(other)".')  # fmt: skip
@click.option("--rate-over", "over_ms", type=Span(), default="5m", show_default=True,
              help="Current rates are of the newest closed windows of so long.")  # fmt: skip
def exporter(port: int | None, max_series: int, over_ms: int) -> None:
    r"""Show funnel counts to Prometheus at /metrics: counters, histograms of durations, current rates.

    Everything is read from the database at each scrape, so a restart is not noticed, and several of these show the
    same. While the database is away, funnelwatch_exporter_up is 0 and nothing else is shown. Ends with Ctrl-C.

    \b
    Example:
      funnelwatch exporter --port 6090
      curl -s localhost:6090/metrics | grep funnelwatch_funnel
    """
    settings = load_settings()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    database = Database(settings.timescale_url, application="funnelwatch exporter")
    with clear_faults(settings):
        migrate(database, settings.window_ms)
    store = TotalsStore(database)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FunnelCollector(lambda: store.read(over_ms / 1000), is_outage, max_series))
    wanted = settings.exporter_port if port is None else port
    try:
        server = MetricsServer(settings, wanted, registry)
    except OSError as error:
        raise click.ClickException(
            f"port {wanted} of {settings.web_host}: {error.strerror}; choose another with --port"
        ) from error
    ended = threading.Event()

    def stop(_signal: int, _frame: Any) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    click.echo(f"http://{settings.web_host}:{server.port}/metrics", err=True)
    ended.wait()
    server.stop()
    database.close()
