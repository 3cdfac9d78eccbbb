"""``funnelwatch bridge``: take over what other apps count at their ``/metrics``."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from typing import Any

import click

from funnelwatch import FunnelProducer
from funnelwatch.producers.bridge.mapping import BridgeFileError, load_targets
from funnelwatch.producers.bridge.target import Bridge, StateFileError
from funnelwatch.producers.kafka.log_throttle import throttle_root
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.redaction import shown
from funnelwatch.schemas.settings import load_settings

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=FILE)
@click.option("--state", "folder", type=click.Path(file_okay=False, path_type=Path),
              help="Folder of the state files; by default bridge/ in the data folder.")  # fmt: skip
@click.option("--check", is_flag=True, help="Validate the file and exit.")
def bridge(file: Path, folder: Path | None, *, check: bool) -> None:
    r"""Convert counters that other apps expose at /metrics into funnel events and counters (docs/prometheus.md).

    One state file per target records the last value of each counter, so that nothing is lost or counted twice when this
    or the app is restarted. Run one bridge a target. Ends with Ctrl-C.

    \b
    Example:
      funnelwatch bridge bridge.yml --check
      funnelwatch bridge bridge.yml
    """
    try:
        targets = load_targets(file)
    except BridgeFileError as error:
        raise click.ClickException(str(error)) from error
    if check:
        for target in targets:
            click.echo(f"{target.name}: {shown(target.url)} every {target.every:g} s, {len(target.maps)} maps")
        return
    settings = load_settings()
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    throttle_root("funnelwatch.producer", "funnelwatch.topics")
    folder = folder or settings.data_dir / "bridge"
    folder.mkdir(parents=True, exist_ok=True)
    producers = [FunnelProducer(settings, when_full="block") for _ in targets]
    try:
        bridges = [
            Bridge(target, producer, folder / f"{target.name}.json", wall_clock_ms)
            for target, producer in zip(targets, producers, strict=True)
        ]
    except StateFileError as error:
        raise click.ClickException(str(error)) from error
    stopping = threading.Event()

    def stop(_signal: int, _frame: Any) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    threads = [threading.Thread(target=one.run, args=(stopping,), name="bridge") for one in bridges]
    for thread in threads:
        thread.start()
    click.echo(f"bridge: {len(targets)} targets", err=True)
    stopping.wait()
    for thread in threads:
        thread.join()
    for producer in producers:
        producer.close()
