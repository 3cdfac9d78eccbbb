"""The parts of the embedded stack that need no server."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from funnelwatch.deploy.embedded import external, folder, kafka_jars, private
from funnelwatch.deploy.embedded.errors import StackError
from funnelwatch.deploy.embedded.java import parse_version
from funnelwatch.deploy.embedded.ports import HOST, RANGE, free_ports
from funnelwatch.deploy.embedded.server import Context
from funnelwatch.deploy.embedded.stack import Stack
from funnelwatch.deploy.embedded.state import ServiceState, StackState
from funnelwatch.deploy.embedded.tansu import TansuServer
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_402"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ('Picked up _JAVA_OPTIONS: -Xmx1g\nopenjdk version "21.0.2" 2024-01-16', 21),
        ("command not found", None),
    ],
)
def test_the_version_of_java_is_understood(said: str, version: int | None) -> None:
    """Old and new ways of writing it, and none at all."""
    assert parse_version(said) == version


def running(service: str, url: str) -> ServiceState:
    """A recorded service."""
    return ServiceState(service, "program 1", "a test", url, port=1, pid=2, created=3.0, log="/log", notes=["note"])


def test_the_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Nothing is lost on the way through the file."""
    state = StackState({"redis": running("redis", "redis://127.0.0.1:1/0")}, timescaledb=True)
    state.save(tmp_path)
    assert StackState.load(tmp_path) == state


def test_settings_read_the_addresses_of_what_is_up(tmp_path: Path) -> None:
    """A service that is down exports no address."""
    down = running("kafka", "127.0.0.1:1")
    down.pid = None
    StackState({"redis": running("redis", "redis://127.0.0.1:7/0"), "kafka": down}).save(tmp_path)
    settings = Settings(data_dir=tmp_path)
    assert revealed(settings.redis_url) == "redis://127.0.0.1:7/0"
    assert settings.kafka_bootstrap_servers == Settings.model_fields["kafka_bootstrap_servers"].default


LOGIN = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "p"}


def with_kafka(data_dir: Path) -> str:
    """The data folder of a stack whose Kafka wants a login; its address."""
    kafka = running("kafka", "127.0.0.1:7")
    kafka.config = dict(LOGIN)
    StackState({"kafka": kafka}).save(data_dir)
    return kafka.url


def test_settings_log_in_to_the_stacks_kafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own properties are added to the login, and win; what cannot be used is still told."""
    with_kafka(tmp_path)
    assert Settings(data_dir=tmp_path).revealed_kafka_config == LOGIN
    monkeypatch.setenv("FUNNELWATCH_KAFKA_CONFIG", '{"linger.ms": "9", "sasl.username": "me"}')
    assert Settings(data_dir=tmp_path).revealed_kafka_config == {**LOGIN, "linger.ms": "9", "sasl.username": "me"}
    monkeypatch.setenv("FUNNELWATCH_KAFKA_CONFIG", '{"no.such.property": "9"}')
    with pytest.raises(ValidationError, match=r"no\.such\.property"):
        Settings(data_dir=tmp_path)


def test_no_other_kafka_gets_the_login_of_the_stacks_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Kafka that the environment or a program names is another one, unless it is the same address."""
    own = with_kafka(tmp_path)
    assert Settings(data_dir=tmp_path, kafka_bootstrap_servers="other:9092").kafka_config == {}
    monkeypatch.setenv("FUNNELWATCH_KAFKA_BOOTSTRAP_SERVERS", "other:9092")
    assert Settings(data_dir=tmp_path).kafka_config == {}
    monkeypatch.setenv("FUNNELWATCH_KAFKA_BOOTSTRAP_SERVERS", own)
    assert Settings(data_dir=tmp_path).revealed_kafka_config == LOGIN


def test_the_state_is_for_nobody_else(tmp_path: Path) -> None:
    """Also where an earlier version has left one that everybody could read, and under any umask."""
    (tmp_path / "stack.json").write_text("{}")
    (tmp_path / "stack.json").chmod(0o644)
    before = os.umask(0)
    try:
        with_kafka(tmp_path)
        private.password(tmp_path, "redis")
        private.appending(tmp_path / "log").close()
        folder.make(tmp_path / "new")
    finally:
        os.umask(before)
    files = [tmp_path / "stack.json", tmp_path / "passwords" / "redis", tmp_path / "log"]
    assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o600"}
    assert oct((tmp_path / "passwords").stat().st_mode & 0o777) == "0o700"
    assert (tmp_path / "new").stat().st_mode & 0o066 == 0
    assert list(tmp_path.glob("stack.json.*")) == []


def test_a_password_is_made_once_and_is_long(tmp_path: Path) -> None:
    """It has no character that an address, a file of properties or a statement of SQL would read as something else."""
    first = private.password(tmp_path, "redis")
    assert private.password(tmp_path, "redis") == first
    assert private.password(tmp_path, "kafka") != first
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", first)


def test_what_is_shown_of_a_service_has_no_password() -> None:
    """Neither its address nor its login."""
    kafka = running("kafka", "127.0.0.1:7")
    kafka.config = dict(LOGIN)
    cache = running("redis", "redis://:hunter2@127.0.0.1:7/0")
    assert kafka.shown()["url"] == "127.0.0.1:7"
    assert "config" not in kafka.shown()
    assert cache.shown()["url"] == "redis://:***@127.0.0.1:7/0"
    assert (kafka.is_open, cache.is_open) == (False, False)
    assert running("kafka", "127.0.0.1:7").is_open
    assert running("postgres", "postgresql://postgres@127.0.0.1:7/x").is_open


def test_clients_of_tansu_ask_for_records_often(tmp_path: Path) -> None:
    """Settings take it from the stack file; it is no login, so that Tansu stays open to everybody."""
    server = TansuServer(Context(tmp_path, {}, lambda _: None, threading.Event()), tmp_path / "tansu", "tansu 1", "")
    kafka = running("kafka", "127.0.0.1:7")
    kafka.config = server.config()
    assert kafka.is_open
    StackState({"kafka": kafka}).save(tmp_path)
    assert Settings(data_dir=tmp_path).kafka("consumer")["fetch.wait.max.ms"] == "10"
    assert "fetch.wait.max.ms" not in Settings(data_dir=tmp_path).kafka("producer")


def test_a_state_of_a_later_version_is_read(tmp_path: Path) -> None:
    """Fields that this version does not know are left out."""
    StackState({"redis": running("redis", "url")}).save(tmp_path)
    content = json.loads((tmp_path / "stack.json").read_text())
    content["services"]["redis"]["colour"] = "red"
    (tmp_path / "stack.json").write_text(json.dumps(content))
    assert StackState.load(tmp_path).services["redis"].url == "url"


def test_a_named_address_counts_unless_it_is_the_stacks_own() -> None:
    """What `up --env` exported does not make a server external; an empty variable names nothing, but of Redis none."""
    state = StackState({"redis": running("redis", "redis://own")})
    environ = {
        "FUNNELWATCH_REDIS_URL": "redis://own",
        "FUNNELWATCH_TIMESCALE_URL": "postgresql://theirs",
        "FUNNELWATCH_KAFKA_BOOTSTRAP_SERVERS": "",
    }
    assert external.named(environ, state) == {"postgres": "postgresql://theirs"}
    assert external.named({"FUNNELWATCH_REDIS_URL": "", "FUNNELWATCH_TIMESCALE_URL": ""}, state) == {"redis": ""}


@pytest.mark.parametrize("text", ["{", "[1]", "7"])
def test_a_kafka_config_that_is_no_object_is_an_error(text: str) -> None:
    """The error names the variable."""
    with pytest.raises(StackError, match=r"FUNNELWATCH_KAFKA_CONFIG: .*JSON"):
        external.kafka_config({"FUNNELWATCH_KAFKA_CONFIG": text})


def test_ports_are_different_and_outside_the_range_of_outgoing_connections() -> None:
    """Else a client that calls a closed port could connect to itself."""
    ports = free_ports({str(number): None for number in range(20)})
    assert len(set(ports.values())) == 20
    assert set(ports.values()) <= set(RANGE)


def test_no_port_is_given_again_soon() -> None:
    """Whoever was given one may not have bound it yet."""
    assert len({free_ports({"a": None})["a"] for _ in range(300)}) == 300


def test_a_remembered_port_is_kept_when_it_is_free() -> None:
    """And given up when another program listens on it."""
    port = free_ports({"a": None})["a"]
    assert free_ports({"a": port}) == {"a": port}
    with socket.create_server((HOST, port)):
        assert free_ports({"a": port})["a"] != port


def test_down_without_a_data_folder_does_nothing(tmp_path: Path) -> None:
    """Neither an error nor a folder."""
    Stack(tmp_path / "none").down(purge=True)
    assert not (tmp_path / "none").exists()


def test_status_without_a_data_folder_says_not_started(tmp_path: Path) -> None:
    """All three are down, and no folder is made."""
    told = Stack(tmp_path / "none", environ={}).status()
    assert [(one.service, one.up, one.error) for one in told] == [
        ("kafka", False, "not started"),
        ("postgres", False, "not started"),
        ("redis", False, "not started"),
    ]
    assert not (tmp_path / "none").exists()


def test_an_unknown_kafka_is_an_error(tmp_path: Path) -> None:
    """The error lists what there is."""
    with pytest.raises(StackError, match="auto, apache, tansu, not rabbit"):
        Stack(tmp_path, "rabbit")  # type: ignore[arg-type]


def test_purge_spares_a_folder_that_never_held_a_stack(tmp_path: Path) -> None:
    """FUNNELWATCH_DATA_DIR set to a home folder by mistake must not cost anything."""
    for name in ("documents", "photos"):
        (tmp_path / name).mkdir()
    folder.purge(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["documents", "photos"]


def test_the_cache_of_jars_is_where_it_can_be_written(tmp_path: Path) -> None:
    """First choice, second choice, and the data folder where neither works."""
    name = f"kafka-{kafka_jars.VERSION}"
    data = tmp_path / "data"
    named = {"XDG_CACHE_HOME": str(tmp_path / "x"), "HOME": str(tmp_path / "h")}
    assert kafka_jars.cache(named, data) == tmp_path / "x" / "funnelwatch" / name
    assert kafka_jars.cache({"HOME": str(tmp_path)}, data) == tmp_path / ".cache" / "funnelwatch" / name
    assert kafka_jars.cache({}, data) == data / "cache" / name
    (tmp_path / "file").write_text("")
    blocked = {"HOME": str(tmp_path / "file" / "home")}
    assert kafka_jars.cache(blocked, data) == data / "cache" / name


@pytest.mark.parametrize(
    ("manifest", "error"),
    [
        (None, "is not there or not complete"),
        ("{", "manifest.json is damaged"),
        ("{}", "is empty"),
        ('{"a.jar": {"size": 3, "sha256": "00"}}', "a.jar is missing"),
    ],
)
def test_an_incomplete_cache_is_noticed(tmp_path: Path, manifest: str | None, error: str) -> None:
    """Each error has its own message."""
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    assert error in (kafka_jars.damage(tmp_path) or "")
