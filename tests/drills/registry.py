"""A schema registry of the drill's own, which can be made to be away."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from funnelwatch.deploy.embedded.ports import HOST

NOT_FOUND = (404, {"error_code": 40403, "message": "Schema not found"})
AWAY = (503, {"error_code": 50301, "message": "the store is away"})


class DrillRegistry:
    """Answers as the Confluent registry does, as far as events need it, while ``up`` is set.

    Each subject has an id of its own, so that new ids can be made at any time.
    """

    def __init__(self) -> None:
        self.up = True
        self.rejected = 0
        self._ids: dict[str, int] = {}
        self._schemas: dict[int, str] = {}
        registry = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            def do_GET(self) -> None:
                """A schema by its id."""
                self._answer(*registry.get(self.path))

            def do_POST(self) -> None:
                """An id for a schema."""
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._answer(*registry.post(self.path, body))

            def _answer(self, status: int, answer: dict[str, Any]) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
                """Nothing."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """The answer to a GET."""
        if not self.up:
            self.rejected += 1
            return AWAY
        schema = self._schemas.get(int(path.rpartition("/")[2]))
        return (200, {"schema": schema}) if schema else NOT_FOUND

    def post(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """The answer to a POST."""
        if not self.up:
            self.rejected += 1
            return AWAY
        number = self._ids.setdefault(path, len(self._ids) + 1)
        self._schemas[number] = json.loads(body)["schema"]
        return 200, {"id": number}

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
