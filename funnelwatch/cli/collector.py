"""``funnelwatch collector`` and ``funnelwatch collector-key``."""

from __future__ import annotations

import logging
import signal

import click

from funnelwatch.producers.collector.keys import KeysError, hash_of, load_keys, new_key
from funnelwatch.producers.collector.line_mapping import LinesFileError
from funnelwatch.producers.kafka.log_throttle import throttle_root
from funnelwatch.schemas.funnels import FunnelsFileError
from funnelwatch.schemas.settings import load_settings


@click.command()
@click.option("--host", help="Address to bind to.  [default: FUNNELWATCH_COLLECTOR_HOST]")
@click.option(
    "--port", type=click.IntRange(0, 65_535), help="Port; 0: a free one.  [default: FUNNELWATCH_COLLECTOR_PORT]"
)
@click.option("--open", "open_to_all", is_flag=True, help="Take events without an API key, for trying it out.")
def collector(host: str | None, port: int | None, open_to_all: bool) -> None:
    r"""Accept events over HTTP, from browsers, phones, other languages, Telegraf and InfluxDB clients.

    POST /v1/events takes JSON, POST /api/v2/write and /write take line protocol; an answer comes when Kafka has
    acknowledged. Senders need an API key ('funnelwatch collector-key' makes one). See docs/collector.md.

    \b
    Example:
      funnelwatch up
      funnelwatch collector --open
      curl http://127.0.0.1:8086/v1/events \
        -d '{"sign_up_session_id": "s-1", "step": "INPUT_NAME", "phase": "IMPRESSION"}'
    """
    from funnelwatch.producers.collector.server import serve  # noqa: PLC0415 - a web server is not needed to show help

    given = {"collector_host": host, "collector_port": port}
    settings = load_settings().model_copy(update={name: value for name, value in given.items() if value is not None})
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    throttle_root("funnelwatch.producer", "funnelwatch.topics")
    try:
        required = load_keys(settings).required
        if not required and not open_to_all:
            raise click.ClickException(
                "there is no API key: make one with 'funnelwatch collector-key NAME', or let everybody send with --open"
            )
        if required and open_to_all:
            raise click.UsageError("--open: there are API keys; leave out one of both")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # uvicorn raises a signal again once it has ended because of it
        served = serve(settings, lambda address: click.echo(f"collector listens on {address}", err=True))
    except (KeysError, FunnelsFileError, LinesFileError) as error:
        raise click.ClickException(str(error)) from error
    if not served:
        raise click.ClickException(
            f"nothing listens on {settings.collector_host}:{settings.collector_port}: is the port taken? "
            "Name another with --port"
        )


@click.command("collector-key")
@click.argument("name")
def collector_key(name: str) -> None:
    r"""Make an API key for the collector: shown once, kept as a hash.

    \b
    Example:
      funnelwatch collector-key web
    """
    if ":" in name or "," in name or not name.strip():
        raise click.UsageError(f"{name!r} is no name for a key; right would be like web or telegraf")
    key = new_key()
    click.echo(f"key, for the sender, shown only now:  {key}")
    click.echo(f"FUNNELWATCH_COLLECTOR_KEYS, for the collector:  {name}:{hash_of(key)}")
