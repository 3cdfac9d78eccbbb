"""A real collector for tests: the command as a process, ended by its id."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import re
import signal
import subprocess
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from funnelwatch.producers.collector.keys import hash_of
from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.program import PROGRAM
from funnelwatch.schemas.settings import Settings
from tests.stack import wait_until
from tests.worker import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stack import Servers

KEY = "fw_a-key-of-the-tests"
TOPICS = ("events", "metrics", "windows", "alerts", "dead_letters")
END_S = 60.0


def own_settings(stack: Servers, **settings: Any) -> Settings:
    """Settings with the key, and with topics of their own, which are made; no limit of rate unless one is given."""
    unique = f"t{uuid.uuid4().hex[:12]}"
    given = {
        "kafka_bootstrap_servers": stack.kafka_bootstrap_servers,
        "kafka_config": stack.kafka_config,
        "collector_keys": f"tests:{hash_of(KEY)}",
        "collector_address_rate": 0,
        "collector_key_rate": 0,
        # A machine that runs many tests at once is slow to answer the first request.
        "producer_unreachable_wait_s": 20.0,
        **{f"{name}_topic": f"{unique}.{name}" for name in TOPICS},
    }
    made = Settings(**(given | settings))
    ensure_topics(made)
    return made


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.text)


@dataclass
class Collector:
    """One collector process."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def host(self) -> str:
        """Where it listens."""
        return str(urlsplit(self.url).hostname)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(urlsplit(self.url).port or 0)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """One request; underscores in names of headers stand for dashes."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read().decode())
        finally:
            connection.close()

    def send(self, content: Any, *, path: str = "/v1/events", packed: bool = False, **headers: str) -> Reply:
        """Events, with the key."""
        body = json.dumps(content).encode()
        headers = {"Authorization": f"Bearer {KEY}", **headers}
        if packed:
            return self.ask("POST", path, gzip.compress(body), Content_Encoding="gzip", **headers)
        return self.ask("POST", path, body, **headers)

    def stop(self) -> int:
        """End it as a service manager does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_S)


@contextlib.contextmanager
def collector(settings: Settings, log: Path, *args: str, **more: Any) -> Iterator[Collector]:
    """Run a collector that listens on a free port; ``more`` names settings to be different."""
    command = [*PROGRAM, "collector", "--port", "0", *args]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment(settings, **more), stdout=out, stderr=out)
    try:
        found: list[str] = []

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            found[:] = re.findall(r"^collector listens on (\S+)$", log.read_text(), re.MULTILINE)
            return bool(found)

        wait_until(listens, "the collector listens", 60)
        yield Collector(process, found[0], log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
