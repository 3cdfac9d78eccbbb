"""``funnelwatch funnels``: check the file of declared funnels, and see what is declared and how much of it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from funnelwatch.schemas.funnels import FunnelsFileError, load_funnels
from funnelwatch.schemas.settings import load_settings

if TYPE_CHECKING:
    from funnelwatch.schemas.funnels import DeclaredFunnels, Funnel
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.funnel_size import FunnelSize


@click.group()
def funnels() -> None:
    r"""Check and show the declared funnels: steps, dimensions, limits.

    Funnels are declared in the YAML file that FUNNELWATCH_FUNNELS_PATH names; without it, sign_up is declared.

    \b
    Example:
      funnelwatch funnels check funnels.yml
    """


@funnels.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object: ok, funnels, errors, warnings.")
def check(file: Path | None, to_json: bool) -> None:
    r"""Check a funnels file (FILE; none: the file in use).

    Each error names file, line, field, what is wrong and what would be right. The exit code is 1 if there is an error.

    \b
    Example:
      funnelwatch funnels check funnels.yml --json
    """
    number, errors = 0, []
    try:
        loaded = load_funnels(file or load_settings().funnels_path)
    except FunnelsFileError as error:
        errors = str(error).splitlines()
    else:
        number = len(loaded)
    if to_json:
        click.echo(json.dumps({"ok": not errors, "funnels": number, "errors": errors}))
    else:
        for line in errors:
            click.echo(line, err=True)
        if not errors:
            click.echo(f"{number} funnel{'' if number == 1 else 's'}, no errors")
    if errors:
        raise click.exceptions.Exit(1)


@funnels.command("list")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object: funnels, undeclared, undeclared_funnels.")
def list_funnels(to_json: bool) -> None:
    r"""List the declared funnels in use, with their dimensions and limits. The exit code is 1 if the file is invalid.

    \b
    Example:
      funnelwatch funnels list
    """
    settings = load_settings()
    loaded = _loaded(settings)
    described = [_described(name, one, settings) for name, one in loaded.items()]
    accepts = (loaded.undeclared or settings.undeclared_funnels) == "accept"
    others = settings.undeclared_max_funnels if loaded.undeclared_funnels is None else loaded.undeclared_funnels
    if to_json:
        policy = {"undeclared": "accept" if accepts else "reject", "undeclared_funnels": others if accepts else 0}
        click.echo(json.dumps({"funnels": described, **policy}, indent=2))
        return
    from funnelwatch.cli.funnels_view import draw_list  # noqa: PLC0415 - help and check need no tables

    draw_list(described)
    click.echo(f"undeclared funnels: {f'accepted, at most {others:,}' if accepts else 'rejected'}")


@funnels.command()
@click.argument("funnel")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object; used is null if it is not known.")
def show(funnel: str, to_json: bool) -> None:
    r"""Show a declared funnel: its steps in order, its dimensions and limits, and how much of them is used.

    If the database does not answer, the declaration is shown and stderr says why the rest is not known. The exit code
    is 1 if the funnel is not declared.

    \b
    Example:
      funnelwatch funnels show sign_up
    """
    settings = load_settings()
    loaded = _loaded(settings)
    if funnel not in loaded:
        raise click.ClickException(f"the funnel {funnel} is not declared; declared are {', '.join(loaded)}")
    described = _described(funnel, loaded[funnel], settings)
    from funnelwatch.cli.funnels_view import draw_funnel, size_of, used  # noqa: PLC0415 - help and check need no database

    size: FunnelSize | None = size_of(settings, funnel)
    if to_json:
        click.echo(json.dumps({**described, "used": size and used(described, size)}, indent=2))
    else:
        draw_funnel(described, size)


def _loaded(settings: Settings) -> DeclaredFunnels:
    """The funnels in use; an error of the file is one clear line."""
    try:
        return load_funnels(settings.funnels_path)
    except FunnelsFileError as error:
        raise click.ClickException(str(error)) from error


def _described(name: str, funnel: Funnel, settings: Settings) -> dict[str, Any]:
    """A funnel with every limit filled in."""
    return {
        "funnel": name,
        "steps": list(funnel.steps),
        "dimensions": list(funnel.dimensions),
        "values": {one: funnel.values.get(one, settings.funnel_max_values) for one in funnel.dimensions},
        "max_series": funnel.max_series or settings.funnel_max_series,
        "session_window_s": funnel.session_window_ms / 1000,
        "timezone": funnel.timezone,
    }
