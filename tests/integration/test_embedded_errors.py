"""What a person is told when the stack cannot start, and that nothing is left running then."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from funnelwatch.deploy.embedded import folder, postgres_programs, process, redis_server, tansu
from funnelwatch.deploy.embedded.errors import StackError
from funnelwatch.deploy.embedded.ports import HOST
from funnelwatch.deploy.embedded.server import Context, Server, launch
from funnelwatch.deploy.embedded.stack import Stack
from funnelwatch.deploy.embedded.state import KAFKA_CONFIG
from tests.stack import Servers, passable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FULL_DISK_BYTES = 24_000_000


def quiet(line: str) -> None:
    """Progress is not of interest here."""


def program(path: Path, script: str) -> Path:
    """A program of our own, for a PATH of its own."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """To start a single server with."""
    return Context(tmp_path, {"PATH": os.environ["PATH"]}, quiet, threading.Event())


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A disk of its own that is soon full; says loudly when this machine does not let us have one."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={FULL_DISK_BYTES},mode=755", "tmpfs", str(path)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"NOT TESTED: a full disk. Mounting a small one is not allowed here: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_disk_with_too_little_room_is_rejected_at_once(tmp_path: Path) -> None:
    """The error tells how much is free, how much is needed, and what to do."""
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(StackError, match=r"2\d MB are free, the stack needs 300 MB.*FUNNELWATCH_DATA_DIR"):
            Stack(disk / "data", "tansu").up(quiet)
        assert not list((disk / "data").iterdir())


def test_a_disk_that_runs_full_during_the_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failing program's own words are shown, the cause is named, and the other services are ended."""
    monkeypatch.setattr(folder, "LEAST_FREE_BYTES", 0)
    with small_disk(tmp_path / "disk") as disk:
        passable(tmp_path)
        stack = Stack(disk, "tansu")
        try:
            with pytest.raises(
                StackError, match=r"(?s)initdb: exit code 1.*No space left on device.*is full: free some"
            ):
                stack.up(quiet)
            assert process.strays(str(stack.data_dir), stack._postgres_data) == []
        finally:
            stack.down(purge=True)


def test_an_unwritable_data_folder_is_named(tmp_path: Path) -> None:
    """A file is in the way where the folder should be: the error says which, and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"file/data cannot be written .*FUNNELWATCH_DATA_DIR"):
        Stack(tmp_path / "file" / "data").up(quiet)


def test_a_program_that_fails_is_quoted_and_the_others_are_ended(
    own_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    """A redis-server that ends at once: its name, exit code, last words and log are in the error."""
    program(
        tmp_path / "bin" / "redis-server",
        '[ "$1" = --version ] && echo "Redis server v=7.2.0 sha=0" && exit 0\necho "a bad day"; exit 7',
    )
    stack = own_stack(environ={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})
    with pytest.raises(StackError, match=r"(?s)redis 7\.2\.0 ended by itself \(exit code 7\).*a bad day.*redis\.log"):
        stack.up(quiet)
    assert process.strays(str(stack.data_dir), stack._postgres_data) == []
    assert not any(one.up for one in stack.status())


@pytest.mark.parametrize("kind", ["tansu", "redis"])
def test_a_port_taken_between_choice_and_start_is_replaced(context: Context, kind: str) -> None:
    """Another program is faster: the server starts on another port."""
    server: Server = tansu.choose(context, "asked for") if kind == "tansu" else redis_server.choose(context)
    with socket.create_server((HOST, 0)) as other:
        state = launch(server, other.getsockname()[1], lambda state: None)
        assert state.port != other.getsockname()[1]
        running = process.alive(state.pid, state.created)
        assert running is not None
        process.stop(running, server.stop_signal, server.grace_s)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, "Java is not on PATH"),
        ("echo 'openjdk version \"11.0.2\"' >&2", "is Java 11, Apache Kafka needs 17"),
        ("exit 1", "java does not run"),
    ],
    ids=["no java", "old java", "broken java"],
)
def test_without_a_good_java_auto_takes_tansu_and_apache_is_an_error(
    own_stack: Callable[..., Stack], tmp_path: Path, script: str | None, reason: str
) -> None:
    """The reason is in the state and in status; asked for by name, Apache Kafka is a clear error."""
    if script is not None:
        program(tmp_path / "bin" / "java", script)
    environ = {"PATH": f"{tmp_path}/bin"}
    kafka = own_stack("auto", environ).up(quiet).services["kafka"]
    assert kafka.program == "tansu 0.6.0"
    assert reason in kafka.why
    own_stack("auto", environ).down()
    with pytest.raises(StackError, match=f"Apache Kafka cannot run: .*{reason}.*--kafka tansu"):
        own_stack("apache", environ).up(quiet)


def test_an_old_redis_gives_way_to_the_wheel(context: Context, tmp_path: Path) -> None:
    """The reason names the program and both versions."""
    old = program(tmp_path / "bin" / "redis-server", 'echo "Redis server v=6.0.16 sha=0"')
    chosen = redis_server.choose(Context(tmp_path, {"PATH": str(old.parent)}, quiet, threading.Event()))
    assert chosen.program.startswith("valkey")
    assert f"{old} is 6.0.16, older than 6.2" in chosen.why


def test_named_servers_are_used_and_left_alone(own_stack: Callable[..., Stack], stack: Servers) -> None:
    """With all three named nothing is started; `down` does not end them."""
    environ = {
        "PATH": os.environ["PATH"],
        "FUNNELWATCH_KAFKA_BOOTSTRAP_SERVERS": stack.kafka_bootstrap_servers,
        "FUNNELWATCH_KAFKA_CONFIG": json.dumps(stack.kafka_config),
        "FUNNELWATCH_TIMESCALE_URL": stack.timescale_url,
        "FUNNELWATCH_REDIS_URL": stack.redis_url,
    }
    own = own_stack("auto", environ)
    state = own.up(quiet)
    assert [service.program for service in state.services.values()] == ["external"] * 3
    assert state.env == {name: url for name, url in environ.items() if name not in {"PATH", KAFKA_CONFIG}}
    assert process.strays(str(own.data_dir), own._postgres_data) == []
    own.down()
    assert all(one.up for one in own.status())


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("FUNNELWATCH_KAFKA_BOOTSTRAP_SERVERS", f"{HOST}:9"),
        ("FUNNELWATCH_TIMESCALE_URL", f"postgresql://{HOST}:9/none"),
        ("FUNNELWATCH_REDIS_URL", f"redis://{HOST}:9/0"),
        ("FUNNELWATCH_REDIS_URL", "nonsense"),
    ],
)
def test_a_named_server_that_does_not_answer_is_an_error(
    own_stack: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    """The error names the variable and the address, and says what to do; nothing is started."""
    monkeypatch.setattr("funnelwatch.deploy.embedded.external.PROBE_S", 1.0)
    stack = own_stack("tansu", {"PATH": os.environ["PATH"], name: url})
    with pytest.raises(StackError, match=f"{name} names {url}, which does not answer: .*unset the variable"):
        stack.up(quiet)
    assert process.strays(str(stack.data_dir), stack._postgres_data) == []


def test_addresses_of_the_stack_itself_are_not_taken_for_named_servers(own_stack: Callable[..., Stack]) -> None:
    """After `eval "$(funnelwatch up --env)"` in a shell, `down` and `up` there still work."""
    first = own_stack().up(quiet)
    own_stack().down()
    again = own_stack(environ={"PATH": os.environ["PATH"], **first.env}).up(quiet)
    assert again.env == first.env
    assert not any(service.external for service in again.services.values())


def test_no_postgresql_at_all_is_an_error_that_lists_what_was_tried(
    own_stack: Callable[..., Stack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old server on PATH and nothing else: it is named with its version."""
    program(tmp_path / "bin" / "postgres", 'echo "postgres (PostgreSQL) 12.3"')
    program(tmp_path / "bin" / "initdb", "")
    monkeypatch.setattr(postgres_programs, "PACKAGED", ())
    monkeypatch.setattr(postgres_programs, "_wheel", lambda: None)
    with pytest.raises(StackError, match=r"bin is PostgreSQL 12\.3, older than 15\. Install PostgreSQL 15 or later"):
        own_stack(environ={"PATH": f"{tmp_path}/bin"}).up(quiet)
