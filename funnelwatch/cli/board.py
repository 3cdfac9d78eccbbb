"""``funnelwatch board``: the live board and the query API, in a browser of this machine."""

from __future__ import annotations

import webbrowser
from typing import TYPE_CHECKING, Any

import click
import psycopg
import uvicorn

from funnelwatch.cli.errors import database_error
from funnelwatch.schemas.redaction import shown
from funnelwatch.schemas.settings import load_settings
from funnelwatch.schemas.web_hosts import names_of
from funnelwatch.web.app import API, create_app
from funnelwatch.web.serving import listening, uvicorn_config

if TYPE_CHECKING:
    import socket

    from fastapi import FastAPI

    from funnelwatch.schemas.settings import Settings


@click.command()
@click.option("--host", help="Address to listen at.  [default: FUNNELWATCH_BOARD_HOST, 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0: a free one.  [default: FUNNELWATCH_BOARD_PORT]")
@click.option("--open", "to_open", is_flag=True, help="Show it in the browser.")
def board(*, host: str | None, port: int | None, to_open: bool) -> None:
    r"""Serve the board, a page that shows the funnel live, and the query API (docs/api.md). Ends with Ctrl-C.

    It reads from the database and Redis, and shows when they are away. It has no login: bound to another address than
    127.0.0.1 every machine that reaches it can read it.

    \b
    Examples:
      funnelwatch board --open
      funnelwatch board --host 0.0.0.0 --port 8080
      curl 'http://127.0.0.1:8060/api/v1/rates?since=1h&by=os'
    """
    settings = load_settings()
    host = settings.board_host if host is None else host
    listener = _listening(host, settings.board_port if port is None else port)
    app = create_app(settings, hosts=names_of(settings.board_hosts, host))
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}/"
    _tell_outage(app, settings)
    click.echo(url)
    click.echo(f"query API: {url.rstrip('/')}{API}/openapi.json; Ctrl-C ends it", err=True)
    if to_open:
        webbrowser.open(url)
    try:
        BoardServer(uvicorn_config(app, settings), app).run(sockets=[listener])
    except KeyboardInterrupt:
        return
    finally:
        listener.close()


class BoardServer(uvicorn.Server):
    """A server that notifies the app at shutdown, so that live event streams end at once."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._board = app

    def handle_exit(self, sig: int, frame: Any) -> None:
        """A signal has come."""
        self._board.state.stopping.set()
        super().handle_exit(sig, frame)


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        click.ClickException: it cannot.
    """
    try:
        return listening(host, port)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen at {host}, port {port}: {error.strerror or error}. Name another with --host and --port "
            "(0: a free one)"
        ) from error


def _tell_outage(app: FastAPI, settings: Settings) -> None:
    try:
        app.state.pool.run(lambda database: database.query("window_length"))
    except psycopg.errors.UndefinedTable:
        click.echo("the database has no tables of funnelwatch yet; `funnelwatch worker` makes them", err=True)
    except psycopg.Error as error:
        where = shown(settings.timescale_url)
        click.echo(
            f"waiting: the database at {where} {database_error(error)}",
            err=True,
        )
