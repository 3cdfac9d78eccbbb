"""A process that exits: soon and with one line where Kafka is away, and without a loss where Kafka is slow."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from funnelwatch import FunnelProducer
from funnelwatch.deploy.embedded.ports import free_port
from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.settings import Settings
from tests.collector import own_settings
from tests.integration.topic import read_events
from tests.worker import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from funnelwatch.deploy.embedded.stack import Stack
    from tests.stack import Servers

LIMIT_S = 2.0
"""From the last event to the end of the process, on a machine that has a processor to spare."""
ADDED_S = 1.5
"""What the producer adds to the exit of the interpreter, whatever else the machine does."""
ATTEMPTS = 5
"""The quickest counts: other tests share the processors."""

PROGRAM = """
import time
from funnelwatch import FunnelProducer

{make}
for number in range(7):
    producer.impression(f"session-{{number}}", "INPUT_NAME")
print(time.time(), flush=True)
{end}
"""
BY_EXIT = PROGRAM.format(make="producer = FunnelProducer()", end="")
BY_CLOSE = PROGRAM.format(make="producer = FunnelProducer()", end="producer.close()")
TWO = PROGRAM.format(make="other = FunnelProducer(); other.counter('a')\nproducer = FunnelProducer()", end="")
CONNECTED = """
from funnelwatch import FunnelProducer

producer = FunnelProducer()
producer.impression("session", "INPUT_NAME")
print(producer.flush(60), "wait", flush=True)
input()
for number in range(20):
    producer.impression(f"session-{number}", "INPUT_NAME")
print("emitted", flush=True)
"""
NO_EVENT = "import time; from funnelwatch import FunnelProducer; FunnelProducer(); print(time.time(), flush=True)"


@pytest.fixture(params=["closed port", "silent port"])
def nowhere(request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Settings by which nothing answers as Kafka."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if request.param == "silent port" else free_port()
        yield Settings(kafka_bootstrap_servers=f"127.0.0.1:{port}")


def run(program: str, settings: Settings) -> tuple[float, list[str]]:
    """Run a program; how long it lived after its last event, s, and the lines that it logged."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(settings),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return time.time() - float(done.stdout), done.stderr.splitlines()


def check_quick(program: str, settings: Settings, check: Callable[[list[str]], None]) -> None:
    """Run a program that exits soon after its last event; ``check`` sees the lines that it logged."""
    lasted = []
    for _ in range(ATTEMPTS):
        seconds, lines = run(program, settings)
        check(lines)
        bare, _ = run(NO_EVENT, settings)
        lasted.append((seconds, seconds - bare))
        if seconds < LIMIT_S:
            return
    assert min(added for _, added in lasted) < ADDED_S, lasted
    assert os.getloadavg()[0] > (os.cpu_count() or 1), f"a quiet machine, and yet {lasted}"


@pytest.mark.parametrize("program", [BY_EXIT, BY_CLOSE], ids=["exit", "close"])
def test_without_kafka_a_process_exits_within_two_seconds_and_logs_one_line(nowhere: Settings, program: str) -> None:
    """The line has the number of lost events, and names the server."""

    def check(lines: list[str]) -> None:
        servers = nowhere.kafka_bootstrap_servers
        assert len(lines) == 1, lines
        assert lines[0].startswith(f"7 events lost: the producer closed before Kafka at {servers} had them; ")

    check_quick(program, nowhere, check)


def test_several_producers_share_one_wait(nowhere: Settings) -> None:
    """Two cost no more time than one, and each logs its own losses."""

    def check(lines: list[str]) -> None:
        assert sorted(line.split(" ", 1)[0] for line in lines) == ["1", "7"], lines

    check_quick(TWO, nowhere, check)


def test_the_wait_can_be_set(nowhere: Settings) -> None:
    """By a setting for all producers, by an argument for one."""
    seconds, lines = run(BY_EXIT, nowhere.model_copy(update={"producer_unreachable_wait_s": 4.0}))
    assert seconds > 4.0
    assert len(lines) == 1, lines
    began = time.monotonic()
    producer = FunnelProducer(nowhere, unreachable_wait_s=0.2)
    producer.impression("session-1", "INPUT_NAME")
    producer.close()
    assert 0.2 < time.monotonic() - began < 30
    assert producer.stats().failed == 1


def test_an_explicit_timeout_is_waited_for_whatever_kafka_does(nowhere: Settings) -> None:
    """Longer than the producer waits by itself."""
    began = time.monotonic()
    producer = FunnelProducer(nowhere, unreachable_wait_s=0.2)
    producer.impression("session-1", "INPUT_NAME")
    producer.close(2.5)
    assert time.monotonic() - began > 2.5


def test_a_slow_kafka_gets_its_events_when_the_process_exits(
    stack: Servers, own_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """Kafka stands still for four times as long as the producer would wait for one that never answered."""
    environ = {"FUNNELWATCH_TIMESCALE_URL": stack.timescale_url, "FUNNELWATCH_REDIS_URL": stack.redis_url}
    kafka = own_stack("tansu", environ).up(lambda line: None).services["kafka"]
    assert kafka.pid
    settings = own_settings(stack).model_copy(
        update={
            "kafka_bootstrap_servers": kafka.url,
            "kafka_config": kafka.config,
            "producer_unreachable_wait_s": 1.0,
        }
    )
    ensure_topics(settings)
    process = subprocess.Popen(
        [sys.executable, "-c", CONNECTED],
        env=environment(settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "0 wait\n"
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "emitted\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(4)
    finally:
        os.kill(kafka.pid, signal.SIGCONT)
    _, errors = process.communicate(timeout=90)
    assert (process.returncode, errors) == (0, "")
    assert len(read_events(settings, 21)) == 21
