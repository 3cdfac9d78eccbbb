"""A schema registry that speaks the real one's HTTP, as far as reading and writing events needs it."""

from __future__ import annotations

import json
import threading
import urllib.parse
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeRegistry:
    """Its state, which a test may change.

    Attributes:
        url: where it answers.
        schemas: by id, as the registry's answer has them.
        versions: by subject and version, likewise; for references.
        status: answer with this HTTP status, where it is not 200.
        down: the methods that are answered so; GET looks a schema up, POST registers one.
        body: the text of such an answer.
        asked: the requests so far, as "GET /path".
        authorization: the header of the last request.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.schemas: dict[int, dict[str, Any]] = {}
        self.versions: dict[tuple[str, str], dict[str, Any]] = {}
        self.status = 200
        self.down = {"GET", "POST"}
        self.body = '{"error_code": 50001, "message": "the store is down"}'
        self.asked: list[str] = []
        self.authorization: str | None = None

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        """Status and text for a request."""
        self.asked.append(f"{method} {path}")
        if self.status != 200 and method in self.down:
            return self.status, self.body
        if method == "POST":
            return 200, json.dumps({"id": self._id(json.loads(body))})
        if path.startswith("/subjects/"):
            _, _, subject, _, version = map(urllib.parse.unquote, path.partition("?")[0].split("/"))
            known = any(subject == one for one, _ in self.versions)
            missing = {"error_code": 40402 if known else 40401, "message": "not found"}
            found = self.versions.get((subject, version))
            return (200, json.dumps(found)) if found else (404, json.dumps(missing))
        schema = self.schemas.get(int(path.rpartition("/")[2]))
        return (200, json.dumps(schema)) if schema else (404, '{"error_code": 40403, "message": "Schema not found"}')

    def _id(self, schema: dict[str, Any]) -> int:
        """The id of a schema, the first that is registered being 7."""
        known = [number for number, one in self.schemas.items() if number >= 7 and one == schema]
        if not known:
            known = [7 + sum(number >= 7 for number in self.schemas)]
            self.schemas[known[0]] = schema
        return known[0]


@contextmanager
def fake_registry() -> Iterator[FakeRegistry]:
    """A running registry on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the base class looks for this name
            state.authorization = self.headers["Authorization"]
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, text = state.answer(self.command, self.path, body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET  # noqa: N815 - and for this one

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = FakeRegistry(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
