"""``funnelwatch grafana``: write dashboards for the dimensions of the declared funnels."""

from __future__ import annotations

from pathlib import Path

import click

from funnelwatch.deploy.grafana.documents import all_dimensions, documents
from funnelwatch.schemas.funnels import FunnelsFileError, load_funnels
from funnelwatch.schemas.settings import load_settings


@click.group()
def grafana() -> None:
    r"""Write Grafana dashboards for the dimensions of the declared funnels.

    \b
    Example:
      funnelwatch grafana dashboards --out dashboards --funnels funnels.yml
    """


@grafana.command()
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write to; it is created."
)
@click.option(
    "--funnels",
    "file",
    type=click.Path(path_type=Path),
    help="Funnels file.  [default: FUNNELWATCH_FUNNELS_PATH, else sign_up with os, browser, app_version]",
)
def dashboards(out: Path, file: Path | None) -> None:
    r"""Write the dashboards Funnel, Step, Alerts and Pipeline as JSON files, for Grafana to provision.

    Each dimension of a declared funnel becomes a filter; panels break down by the dimensions of the chosen funnel.
    Files of the same name are replaced. The exit code is 1 if the funnels file is invalid or a file cannot be written.

    \b
    Example:
      funnelwatch grafana dashboards --out dashboards --funnels funnels.yml
    """
    try:
        dimensions = all_dimensions(load_funnels(file or load_settings().funnels_path))
    except FunnelsFileError as error:
        raise click.ClickException(str(error)) from error
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in documents(dimensions).items():
            (out / name).write_text(text)
            click.echo(out / name)
    except OSError as error:
        raise click.ClickException(f"{out}: {error.strerror}") from error
    click.echo(f"dimensions: {', '.join(dimensions) or 'none'}")
