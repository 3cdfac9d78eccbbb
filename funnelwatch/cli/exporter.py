"""``funnelwatch exporter``: funnel counts for Prometheus."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

import click
import psycopg

from funnelwatch.cli.errors import Span, clear_errors
from funnelwatch.schemas.dimensions import check_dimension_name
from funnelwatch.schemas.freshness import stale_after_ms
from funnelwatch.schemas.funnels import FunnelsFileError, load_funnels
from funnelwatch.schemas.process_metrics import process_registry
from funnelwatch.schemas.settings import load_settings
from funnelwatch.sinks.errors import is_transient_for_reader
from funnelwatch.sinks.exporter.collector import BY, FunnelCollector, JobsCollector
from funnelwatch.sinks.timescale.jobs import read_jobs
from funnelwatch.sinks.timescale.migrations import check_window_length
from funnelwatch.sinks.timescale.reader import Reader
from funnelwatch.sinks.timescale.totals import TotalsStore
from funnelwatch.web.serving import MetricsServer

STATEMENT_S = 30.0
"""A statement of a scrape that takes longer is ended, s."""


MOST_DIMENSIONS = 8
"""Labels that are dimensions: each multiplies the series."""


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Where it answers; by default FUNNELWATCH_EXPORTER_PORT.")
@click.option("--max-series", type=click.IntRange(1), default=1000, show_default=True,
              help='Series with names of their own; what is beyond is added up under "(other)".')  # fmt: skip
@click.option("--rate-over", "over_ms", type=Span(), default="5m", show_default=True,
              help="Current rates are of the newest closed windows of so long.")  # fmt: skip
@click.option("--by", default=",".join(BY), show_default=True, metavar="DIMENSION,…",
              help="Dimensions that are labels; histograms of durations have the first one only.")  # fmt: skip
def exporter(port: int | None, max_series: int, over_ms: int, by: str) -> None:
    r"""Show funnel counts to Prometheus at /metrics: counters, histograms of durations, current rates.

    Everything is read from the database at each scrape, so a restart is not noticed, and several of these show the
    same. While the database is away or has no tables yet, funnelwatch_exporter_up is 0 and nothing else is shown. It
    makes no tables and writes nothing: a login that may only read is enough. Ends with Ctrl-C.

    \b
    Example:
      funnelwatch exporter --by os,country
      curl -s localhost:6090/metrics | grep funnelwatch_funnel
    """
    names = _dimensions(by)
    settings = load_settings()
    try:
        declared = load_funnels(settings.funnels_path)
    except FunnelsFileError as error:
        raise click.ClickException(str(error)) from error
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    database = Reader(settings.timescale_url, application="funnelwatch exporter", statement_s=STATEMENT_S)
    with clear_errors(settings):
        try:
            check_window_length(database, settings.window_ms)
        except psycopg.errors.UndefinedTable:
            click.echo("the database has no tables of funnelwatch yet; `funnelwatch worker` makes them", err=True)
        except psycopg.errors.InsufficientPrivilege as error:
            click.echo(f"waiting: the database does not let this user read: {error.diag.message_primary}", err=True)
    store = TotalsStore(database, settings.events_topic)
    registry = process_registry()
    jobs = Reader(settings.timescale_url, application="funnelwatch exporter", statement_s=STATEMENT_S)
    registry.register(JobsCollector(lambda: read_jobs(jobs)))
    registry.register(
        FunnelCollector(
            lambda: store.read(over_ms / 1000, names),
            is_transient_for_reader,
            max_series,
            stale_after_ms(settings),
            names,
            declared=declared,
        )
    )
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
    jobs.close()


def _dimensions(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    try:
        for name in names:
            check_dimension_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--by") from error
    if len(set(names)) < len(names) or len(names) > MOST_DIMENSIONS:
        raise click.BadParameter(f"right would be up to {MOST_DIMENSIONS} different dimensions", param_hint="--by")
    if "le" in names:
        raise click.BadParameter("le: is a label of Prometheus itself; right would be another", param_hint="--by")
    return names
