"""Real workers for tests: the Faust app as a process, started with a test's settings and ended by its id."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.schemas.settings import PREFIX, Settings
from tests.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
END_S = 60.0
START_S = 120.0


def environment(settings: Settings, **more: Any) -> dict[str, str]:
    """The environment in which a process has these settings, all of them; ``more`` names settings to be different."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return env | settings.model_copy(update=more).environment()


@dataclass
class Worker:
    """One worker process. Its log is the file ``log``."""

    settings: Settings
    log: Path
    more: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Worker:
        """Start the process; does not wait until it has partitions."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "faust", "-A", "funnelwatch.stream.app", "worker", "-l", "info"],
                cwd=ROOT,
                env=environment(self.settings, **{"web_port": self.port, **self.more}),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def text(self) -> str:
        """What it has logged so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def assigned(self) -> int:
        """How often it was given partitions of the events' topic, by its log."""
        topic = self.more.get("events_topic", self.settings.events_topic)
        return len(re.findall(rf"assigned: partitions \[.*\] of {re.escape(topic)}\s", self.text()))

    def wait_assigned(self) -> Worker:
        """Wait until it has been given partitions for the first time."""
        wait_until(lambda: self.assigned() or not self.running, f"worker {self.pid} has partitions", START_S)
        assert self.running, self.text()
        return self

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End it at once, as a crash of the machine would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(END_S)

    def terminate(self) -> None:
        """Ask it to end; does not wait."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = END_S) -> int:
        """Its exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        assert self.process is not None
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """Ask it to end and wait; its exit code."""
        self.terminate()
        return self.wait()

    def get(self, page: str) -> tuple[int, str]:
        """Status and body of one of its pages; status 0 while it does not serve."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}{page}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except (urllib.error.URLError, OSError):
            return 0, ""


@contextlib.contextmanager
def workers(settings: Settings, count: int = 1, **more: Any) -> Iterator[list[Worker]]:
    """Workers that have partitions or wait for them; whatever is left of them is killed in the end."""
    made = [Worker(settings, settings.data_dir / f"worker-{number}.log", more) for number in range(count)]
    try:
        for worker in made:
            worker.start()
        yield made
    finally:
        for worker in made:
            if worker.running:
                worker.kill()


@contextlib.contextmanager
def worker(settings: Settings, **more: Any) -> Iterator[Worker]:
    """One worker; see ``workers``."""
    with workers(settings, **more) as made:
        yield made[0]
