"""Board, exporter, notifier and worker with clients that send nothing, and with requests for other hosts."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.program import PROGRAM
from tests.filling import count
from tests.stack import wait_until
from tests.worker import Worker, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

DESCRIPTORS = 256
HALF_OPEN = 300
LIMITS = {"web_header_timeout_s": 3, "web_max_connections": 60, "web_max_connections_per_address": 50}
PAGES = {
    "board": ["/", "/metrics", "/healthz", "/api/v1/funnels", "/static/board.js", "/live", "/nowhere"],
    "exporter": ["/metrics", "/", "/nowhere"],
    "notifier": ["/metrics", "/", "/nowhere"],
    "worker": ["/metrics", "/healthz", "/readyz", "/", "/nowhere"],
}


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    name: str
    port: int

    def ask(self, path: str, host: str | None = None, method: str = "GET") -> int:
        """The status of an answer; 0 where nobody answers."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            connection.request(method, path, headers={} if host is None else {"Host": host})
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """A plain connection."""
        return socket.create_connection((HOST, self.port), timeout=90)


@contextlib.contextmanager
def command(settings: Settings, folder: Path, name: str, *args: str) -> Iterator[Running]:
    """A command with few file descriptors, on a free port."""
    port = free_port()
    line = [*PROGRAM, *(arg.format(port=port) for arg in args)]
    limited = ["sh", "-c", f'ulimit -n {DESCRIPTORS} && exec "$@"', "sh", *line]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(limited, env=environment(settings, **LIMITS), stdout=log, stderr=log)
    running = Running(name, port)
    try:
        wait_until(lambda: running.ask("/metrics") == 200 or process.poll() is not None, f"{name} answers", 120)
        yield running
        assert process.poll() is None
        assert "Traceback" not in (folder / f"{name}.log").read_text()
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def board(settings: Settings, folder: Path) -> Iterator[Running]:
    """The board."""
    count(settings, {})
    with command(settings, folder, "board", "board", "--port", "{port}") as running:
        yield running


@contextlib.contextmanager
def exporter(settings: Settings, folder: Path) -> Iterator[Running]:
    """The exporter."""
    count(settings, {})
    with command(settings, folder, "exporter", "exporter", "--port", "{port}") as running:
        yield running


@contextlib.contextmanager
def notifier(settings: Settings, folder: Path) -> Iterator[Running]:
    """The notifier, with a route that leads nowhere."""
    count(settings, {})
    routes = folder / "routes.yml"
    routes.write_text(json.dumps({"routes": [{"name": "hook", "kind": "webhook", "url": f"http://{HOST}:9/"}]}))
    args = ("notify", "--routes", str(routes), "--web-port", "{port}")
    with command(settings, folder, "notifier", *args) as running:
        yield running


@contextlib.contextmanager
def worker(settings: Settings, folder: Path) -> Iterator[Running]:
    """A worker."""
    one = Worker(settings, folder / "worker.log", dict(LIMITS)).start()
    running = Running("worker", one.port)
    try:
        wait_until(lambda: running.ask("/healthz") == 200 or not one.running, "the worker is healthy", 120)
        assert one.running, one.text()
        yield running
        assert one.running
        assert "Traceback" not in one.text()
        assert one.stop() == 0
    finally:
        if one.running:
            one.kill()


SERVERS: list[Callable[[Settings, Path], contextlib.AbstractContextManager[Running]]] = [
    board,
    exporter,
    notifier,
    worker,
]


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.__name__)
def test_slow_clients_keep_nobody_out_and_other_hosts_are_rejected(
    server: Callable[[Settings, Path], contextlib.AbstractContextManager[Running]], settings: Settings, tmp_path: Path
) -> None:
    """300 heads that never end, of a server with 256 file descriptors: it answers at once, and ends them."""
    with server(settings, tmp_path) as running:
        for path in PAGES[running.name]:
            assert running.ask(path, "evil.example") == 400, path
            assert running.ask(path, "evil.example", "POST") == 400, path
        assert running.ask("/metrics", "localhost") == running.ask("/metrics", f"{HOST}:{running.port}") == 200
        half_open = []
        for number in range(HALF_OPEN):
            half_open.append(running.connect())
            if number % 2:
                with contextlib.suppress(OSError):
                    half_open[-1].sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        assert [running.ask("/metrics") for _ in range(5)] == [200] * 5
        said = [until_closed(connection) for connection in half_open]
        assert {one.split(b" ")[1] for one in said if one} <= {b"408", b"503"}
        assert sum(one.startswith(b"HTTP/1.1 408") for one in said) <= LIMITS["web_max_connections_per_address"]
        slow_byte_by_byte(running)


def until_closed(connection: socket.socket) -> bytes:
    """All that comes until the server hangs up."""
    parts = []
    with connection, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def slow_byte_by_byte(running: Running) -> None:
    """A head that comes byte by byte gets no more time, and a second one on a connection no more than the first."""
    connection = running.connect()
    connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert connection.recv(12) == b"HTTP/1.1 200"
    ended = threading.Event()

    def trickle() -> None:
        with contextlib.suppress(OSError):
            while not ended.wait(0.1):
                connection.sendall(b"G")

    sender = threading.Thread(target=trickle)
    sender.start()
    answer = b""
    with contextlib.suppress(OSError):
        while part := connection.recv(65_536):
            answer = (answer + part)[-2_000:]
    ended.set()
    sender.join()
    connection.close()
