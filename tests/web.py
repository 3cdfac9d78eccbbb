"""The board's server in a thread of the test's process, and requests to it."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from funnelwatch.cli.board import BoardServer
from funnelwatch.schemas.web_hosts import LOOPBACK
from funnelwatch.web.app import create_app
from funnelwatch.web.serving import uvicorn_config
from tests.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings


@dataclass(frozen=True)
class Reply:
    """What was answered."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    url: str

    def get(self, path: str, parameters: Any = (), **headers: str) -> Reply:
        """Ask; ``parameters`` as for ``urlencode``, headers with ``_`` for ``-``."""
        query = urlencode(parameters, doseq=True)
        request = urllib.request.Request(
            f"{self.url}{path}{'?' if query else ''}{query}",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return Reply(reply.status, dict(reply.headers), reply.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, dict(error.headers), error.read().decode())


@contextmanager
def served(settings: Settings) -> Iterator[Served]:
    """The board and the query API on a free port, for as long as the block runs."""
    app = create_app(settings, hosts=LOOPBACK)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = BoardServer(uvicorn_config(app, settings), app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive(), "the server is up")
            yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            app.state.stopping.set()
            server.should_exit = True
            thread.join()
