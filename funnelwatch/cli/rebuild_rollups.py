"""``funnelwatch rebuild rollups``: materialize what has changed, now."""

from __future__ import annotations

import json

import click

from funnelwatch.cli.faults import opened
from funnelwatch.settings import load_settings
from sinks.timescale.retention import refresh


@click.command()
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object.")
def rollups(to_json: bool) -> None:
    r"""Bring the counts by 5 minutes, hours and days up to date at once.

    With TimescaleDB these are continuous aggregates, and jobs of the database refresh them every 5 minutes to 1 hour,
    wherever something has changed. This does the same now: after a backfill, or where the database runs no jobs. On
    plain PostgreSQL they are views, always up to date, and there is nothing to do.

    \b
    Examples:
      funnelwatch rebuild rollups
      funnelwatch rebuild rollups --json
    """
    with opened(load_settings()) as database:
        refreshed = refresh(database)
    if to_json:
        click.echo(json.dumps({"refreshed": refreshed}))
    elif refreshed:
        click.echo("counts by 5 minutes, hours and days are up to date")
    else:
        click.echo("nothing to do: on plain PostgreSQL the rollups are views, and always up to date")
