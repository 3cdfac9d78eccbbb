"""The life of an embedded stack: up, up again, killed, down."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

from funnelwatch.cli.stack import topics_are_new
from funnelwatch.deploy.embedded import process
from funnelwatch.deploy.embedded.errors import StackError
from funnelwatch.deploy.embedded.ports import HOST
from funnelwatch.deploy.embedded.state import ServiceState, StackState
from funnelwatch.program import PROGRAM
from tests.integration.test_embedded_errors import program
from tests.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import psutil

    from funnelwatch.deploy.embedded.stack import Stack


def quiet(line: str) -> None:
    """Progress is not of interest here."""


def pids(state: StackState) -> dict[str, int | None]:
    """Process id by service."""
    return {name: service.pid for name, service in state.services.items()}


def ports(state: StackState) -> dict[str, int | None]:
    """Port by service."""
    return {name: service.port for name, service in state.services.items()}


def processes(stack: Stack) -> list[psutil.Process]:
    """Every process of this stack, recorded or not."""
    return process.strays(str(stack.data_dir), stack._postgres_data)


def is_open(port: int | None) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        return port is not None and probe.connect_ex((HOST, port)) == 0


def command(stack: Stack, *args: str, **environ: str) -> subprocess.Popen[str]:
    """Run ``funnelwatch`` on the stack's data folder."""
    env = {**os.environ, "FUNNELWATCH_DATA_DIR": str(stack.data_dir), **environ}
    return subprocess.Popen([*PROGRAM, *args], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_up_twice_is_one_stack(own_stack: Callable[..., Stack]) -> None:
    """The second `up` keeps what runs."""
    first = own_stack().up(quiet)
    second = own_stack().up(quiet)
    assert pids(first) == pids(second)
    assert first.env == second.env


def test_two_ups_at_once_make_one_stack(own_stack: Callable[..., Stack]) -> None:
    """The second waits for the first, then finds everything running."""
    stacks = [own_stack(), own_stack()]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda stack: pids(stack.up(quiet)), stacks)
    assert first == second
    servers = [one for one in processes(stacks[0]) if one.pid in first.values()]
    assert len(servers) == 3


def test_down_leaves_no_process_and_no_port(own_stack: Callable[..., Stack]) -> None:
    """Neither a process of the stack nor a listener on its ports remains, and status says so."""
    stack = own_stack()
    state = stack.up(quiet)
    assert all(is_open(port) for port in ports(state).values())
    stack.down()
    assert processes(stack) == []
    assert not any(is_open(port) for port in ports(state).values())
    assert {one.error for one in stack.status()} == {"stopped"}


def test_data_and_ports_survive_down_and_up(own_stack: Callable[..., Stack]) -> None:
    """A table and a key written before are there after, at the same addresses."""
    stack = own_stack()
    before = stack.up(quiet)
    with psycopg.connect(before.services["postgres"].url) as session:
        session.execute("CREATE TABLE kept AS SELECT 7 AS number")
    with redis.Redis.from_url(before.services["redis"].url) as client:
        client.set("kept", 7)
    stack.down()
    after = stack.up(quiet)
    assert before.env == after.env
    with psycopg.connect(after.services["postgres"].url) as session:
        assert session.execute("SELECT number FROM kept").fetchone() == (7,)
    with redis.Redis.from_url(after.services["redis"].url) as client:
        assert client.get("kept") == b"7"


@pytest.mark.parametrize("service", ["kafka", "postgres", "redis"])
def test_a_killed_service_is_started_again_on_its_port(own_stack: Callable[..., Stack], service: str) -> None:
    """After kill -9 of one, status tells which, and `up` restarts it and keeps the others."""
    stack = own_stack()
    before = stack.up(quiet)
    pid = before.services[service].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: process.alive(pid, before.services[service].created) is None, "the process is gone")
    assert {one.service for one in stack.status() if not one.up} == {service}
    after = stack.up(quiet)
    assert ports(before) == ports(after)
    assert {name for name in before.services if pids(before)[name] != pids(after)[name]} == {service}
    assert all(one.up for one in stack.status())


def test_a_deleted_state_does_not_leave_a_second_stack(own_stack: Callable[..., Stack]) -> None:
    """Processes that nothing records any more are found and ended, and their data are taken over."""
    stack = own_stack()
    before = stack.up(quiet)
    (stack.data_dir / "stack.json").unlink()
    after = stack.up(quiet)
    assert not set(pids(before).values()) & set(pids(after).values())
    assert not any(process.alive(service.pid, service.created) for service in before.services.values())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"services": {"kafka": 7}}'])
def test_a_damaged_state_is_no_obstacle(own_stack: Callable[..., Stack], content: str) -> None:
    """Whatever stack.json holds, `up` works."""
    stack = own_stack()
    stack.data_dir.mkdir()
    (stack.data_dir / "stack.json").write_text(content)
    stack.up(quiet)
    assert all(one.up for one in stack.status())


def test_a_stale_state_never_ends_another_process(own_stack: Callable[..., Stack]) -> None:
    """A recorded pid that now belongs to somebody else is left alone."""
    stack = own_stack()
    stack.up(quiet)
    stack.down()
    with subprocess.Popen(["sleep", "600"]) as innocent:
        content = json.loads((stack.data_dir / "stack.json").read_text())
        content["services"]["redis"] |= {"pid": innocent.pid, "created": 1_000_000_000.0}
        (stack.data_dir / "stack.json").write_text(json.dumps(content))
        stack.up(quiet)
        stack.down()
        assert innocent.poll() is None
        innocent.kill()


def test_a_taken_port_is_given_up(own_stack: Callable[..., Stack]) -> None:
    """When another program holds the remembered port, the service moves."""
    stack = own_stack()
    before = stack.up(quiet)
    stack.down()
    with socket.create_server((HOST, before.services["redis"].port or 0)):
        after = stack.up(quiet)
    assert after.services["redis"].port != before.services["redis"].port
    assert after.services["postgres"].port == before.services["postgres"].port


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_up_leaves_nothing(
    own_stack: Callable[..., Stack], tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C, TERM or a closed terminal in the middle of the start: the services that it started are gone."""
    stack = own_stack()
    never_ready = '[ "$1" = --version ] && echo "Redis server v=7.2.0 sha=0" && exit 0\nexec sleep 600'
    program(tmp_path / "bin" / "redis-server", never_ready)
    with command(stack, "up", "--kafka", "tansu", PATH=f"{tmp_path}/bin:{os.environ['PATH']}") as running:
        wait_until(lambda: "redis" in StackState.load(stack.data_dir).services, "the last service has been started")
        running.send_signal(number)
        running.communicate(timeout=120)
    assert running.returncode == 1
    assert processes(stack) == []


def test_after_a_killed_up_the_next_one_cleans_up(own_stack: Callable[..., Stack]) -> None:
    """Kill -9 in the middle of a start leaves servers behind; the next `up` has one of each."""
    stack = own_stack()
    with command(stack, "up", "--kafka", "tansu") as running:
        wait_until(lambda: processes(stack), "a service has been started")
        running.kill()
        running.communicate(timeout=120)
    state = stack.up(quiet)
    found = [one.as_dict(["pid", "ppid"]) for one in processes(stack) if one.is_running()]
    roots = {one["pid"] for one in found if one["ppid"] not in pids(state).values()}
    assert roots == set(pids(state).values())


def test_purge_deletes_what_is_the_stacks_and_nothing_else(own_stack: Callable[..., Stack]) -> None:
    """A file that somebody keeps in the data folder stays."""
    stack = own_stack()
    stack.up(quiet)
    kept = stack.data_dir / "notes.txt"
    kept.write_text("mine")
    stack.down(purge=True)
    assert list(stack.data_dir.iterdir()) == [kept]
    kept.unlink()
    stack.down(purge=True)
    assert not stack.data_dir.exists()


def test_another_kafka_is_rejected_while_one_runs(own_stack: Callable[..., Stack]) -> None:
    """Asking for Apache Kafka while Tansu runs says to run `down`, and ends nothing."""
    own_stack("tansu").up(quiet)
    with pytest.raises(StackError, match="funnelwatch down"):
        own_stack("apache").up(quiet)
    assert all(one.up for one in own_stack().status())


def test_up_starts_the_kafka_that_was_named_last(own_stack: Callable[..., Stack]) -> None:
    """After `up --kafka tansu` and `down`, an `up` without --kafka starts Tansu, on a machine with Java too."""
    own_stack("tansu").up(quiet)
    own_stack(None).down(quiet)
    again = own_stack(None).up(quiet).services["kafka"]
    assert (again.program.split()[0], again.why) == ("tansu", "it was asked for")
    own_stack(None).down(quiet)
    assert StackState.load(own_stack().data_dir).kafka == "tansu"
    assert StackState.load(own_stack().data_dir / "elsewhere").kafka == "auto"


def test_the_commands_print_what_they_promise(own_stack: Callable[..., Stack], tmp_path: Path) -> None:
    """`up --env` prints no password but where they are; `status` has exit code 0 when up and 3 when not."""
    stack = own_stack()
    with command(stack, "up", "--kafka", "tansu", "--env") as up:
        exports, progress = up.communicate(timeout=120)
    assert exports == f"export FUNNELWATCH_DATA_DIR={stack.data_dir}\n"
    assert "tansu 0.6.0: ready in" in progress
    with command(stack, "status", "--json") as status:
        told = json.loads(status.communicate(timeout=120)[0])
    assert (status.returncode, [one["up"] for one in told.values()]) == (0, [True, True, True])
    with command(stack, "down") as down:
        down.communicate(timeout=120)
    with command(stack, "status") as status:
        text, _ = status.communicate(timeout=120)
    assert (down.returncode, status.returncode, text.count("DOWN: stopped")) == (0, 3, 3)
    assert "in memory only" in text


def service(program: str, pid: int) -> ServiceState:
    """A Kafka that runs as this process."""
    return ServiceState("kafka", program, "it was asked for", "127.0.0.1:9092", pid=pid, created=float(pid))


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        (None, service("tansu 0.6.0", 1), True),
        (service("tansu 0.6.0", 1), service("tansu 0.6.0", 1), False),
        (service("tansu 0.6.0", 1), service("tansu 0.6.0", 2), True),
        (service("tansu 0.6.0", 1), service("apache-kafka 4.1.0", 2), True),
        (service("apache-kafka 4.1.0", 1), service("apache-kafka 4.1.0", 2), False),
        (None, service("apache-kafka 4.1.0", 1), False),
        (service("external", 1), service("apache-kafka 4.1.0", 2), False),
        (service("tansu 0.6.0", 1), service("external", 2), False),
    ],
)
def test_only_a_kafka_that_cannot_have_its_topics_is_begun_anew(
    before: ServiceState | None, now: ServiceState, new: bool
) -> None:
    """Tansu when it was started, and a program that follows another; never one that kept its data, or is not ours."""
    assert topics_are_new(before, now) is new
