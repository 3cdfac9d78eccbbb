"""``funnelwatch rebuild rollups``: materialize what has changed, now."""

from __future__ import annotations

import json

import click

from funnelwatch.cli.faults import opened
from funnelwatch.schemas.settings import load_settings
from funnelwatch.sinks.timescale.refreshing import RefreshBusyError, RefreshWait
from funnelwatch.sinks.timescale.retention import refresh


class _Teller:
    """Tells on stderr what is new."""

    def __init__(self) -> None:
        self._told = ""

    def __call__(self, what: str) -> None:
        """Tell it, unless that was told last."""
        if what != self._told:
            click.echo(what, err=True)
            self._told = what


@click.command()
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object.")
def rollups(to_json: bool) -> None:
    r"""Bring the counts by 5 minutes, hours and days up to date at once.

    They are materialized: with TimescaleDB by jobs of the database every 5 minutes to 1 hour, on plain PostgreSQL by a
    worker every minute, wherever something has changed. This does the same now: after a backfill, or where no jobs and
    no worker are run. On plain PostgreSQL what is not materialized is added up at each query, so this changes how fast
    they are, never the numbers.

    A job of the database that is refreshing the same is waited for, up to 10 minutes.

    \b
    Examples:
      funnelwatch rebuild rollups
      funnelwatch rebuild rollups --json
    """
    with opened(load_settings()) as database:
        try:
            refresh(database, RefreshWait(report=_Teller()))
        except RefreshBusyError as error:
            raise click.ClickException(f"the rollups are not all up to date: {error}") from error
    if to_json:
        click.echo(json.dumps({"refreshed": True}))
    else:
        click.echo("counts by 5 minutes, hours and days are up to date")
