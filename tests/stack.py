"""The real servers that integration tests use: the embedded stack, or Docker containers.

Which ones is told by the environment: ``FUNNELWATCH_TEST_STACK`` is ``embedded`` (default) or ``docker``, and
``FUNNELWATCH_TEST_KAFKA`` is ``apache`` (every guarantee is proven on it), ``tansu`` or ``auto`` (default: Apache Kafka
where Java and Maven are). Tests run in several processes at once, each of which has servers of its own.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import tempfile
import time
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil
import psycopg
import pytest

from funnelwatch.deploy.embedded.errors import StackError
from funnelwatch.deploy.embedded.java import find_java
from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.deploy.embedded.private import FOLDER
from funnelwatch.deploy.embedded.probe import probe
from funnelwatch.deploy.embedded.stack import Kafka, Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER_PREFIX = "funnelwatch-tests-"
CONTAINER_TIMEOUT_S = 120.0
LONGEST_PAUSE_S = 0.25
KAFKA_IMAGE = "apache/kafka:4.1.0"
TIMESCALE_IMAGE = "timescale/timescaledb:2.24.0-pg17"
REDIS_IMAGE = "redis:8.2-alpine"


@dataclass(frozen=True)
class Servers:
    """Where the servers of this test run are, and what they are."""

    kafka_bootstrap_servers: str
    kafka_config: dict[str, str]
    """How a client logs in to it."""
    timescale_url: str
    """A database of the server; tests make their own beside it."""
    redis_url: str
    kafka: str
    """Name and version, as "apache-kafka 4.1.0"."""
    database: str
    timescaledb: bool
    data_dir: Path | None = None
    """Of the embedded stack; None: it is none."""

    @property
    def tansu(self) -> bool:
        """Whether Kafka is Tansu, which lacks some guarantees (docs/running.md)."""
        return self.kafka.startswith("tansu")


def plan() -> str:
    """One line on which servers this run is going to use."""
    if _kind() == "docker":
        return f"servers: Docker containers {KAFKA_IMAGE}, {TIMESCALE_IMAGE}, {REDIS_IMAGE}, started on first use"
    if _kafka() == "tansu":
        return "servers: the embedded stack with Tansu; guarantees are proven on Apache Kafka only (Java 17 and Maven)"
    return "servers: the embedded stack with Apache Kafka, started on first use"


@contextlib.contextmanager
def servers() -> Iterator[Servers]:
    """Start the servers, and end them whatever happens.

    Raises:
        funnelwatch.deploy.embedded.errors.StackError: a server does not start.
        RuntimeError: Docker was asked for and has no engine.
    """
    with _docker() if _kind() == "docker" else _embedded() as running:
        yield running


def _kind() -> str:
    kind = os.environ.get("FUNNELWATCH_TEST_STACK", "embedded")
    if kind not in {"embedded", "docker"}:
        raise RuntimeError(f"FUNNELWATCH_TEST_STACK is embedded or docker, not {kind!r}")
    return kind


@lru_cache(maxsize=1)
def _kafka() -> Kafka:
    """Which Kafka: the one that is asked for, else Apache Kafka where Java and Maven are, else Tansu."""
    kafka = os.environ.get("FUNNELWATCH_TEST_KAFKA", "auto")
    if kafka not in {"auto", "apache", "tansu"}:
        raise RuntimeError(f"FUNNELWATCH_TEST_KAFKA is auto, apache or tansu, not {kafka!r}")
    if kafka == "auto":
        try:
            find_java(os.environ)
        except StackError:
            return "tansu"
        return "apache" if shutil.which("mvn") else "tansu"
    return cast("Kafka", kafka)


@contextlib.contextmanager
def _embedded() -> Iterator[Servers]:
    _remove_leftovers()
    data_dir = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
    data_dir.chmod(0o755)  # the server's unprivileged user may pass when tests run as root
    stack = Stack(data_dir, _kafka())
    told: list[str] = []
    try:
        state = stack.up(told.append)
        services = state.services
        yield Servers(
            services["kafka"].url,
            services["kafka"].config,
            services["postgres"].url,
            services["redis"].url,
            services["kafka"].program,
            f"{services['postgres'].program} ({', '.join(services['postgres'].notes)})",
            bool(state.timescaledb),
            data_dir,
        )
    finally:
        stack.down(purge=True)
        shutil.rmtree(data_dir, ignore_errors=True)


def _remove_leftovers() -> None:
    """End the stacks of test runs that were killed: their folder names the process that is no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        pid = folder.name.removeprefix(FOLDER_PREFIX).split("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                if folder.stat().st_uid == os.geteuid():
                    Stack(folder).down(purge=True)
                    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _docker() -> Iterator[Servers]:
    from testcontainers.core.container import DockerContainer

    wrong = _docker_error()
    if wrong is not None:
        raise RuntimeError(
            f"FUNNELWATCH_TEST_STACK=docker needs a Docker engine, and none answers ({wrong}): start it, or unset the "
            "variable to test on the embedded stack."
        )
    kafka_port = free_port()
    kafka = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, kafka_port)
    for name, value in _kafka_environment(kafka_port).items():
        kafka = kafka.with_env(name, value)
    timescale = DockerContainer(TIMESCALE_IMAGE).with_exposed_ports(5432).with_env("POSTGRES_HOST_AUTH_METHOD", "trust")
    redis = DockerContainer(REDIS_IMAGE).with_exposed_ports(6379)
    with kafka, timescale, redis:
        kafka_url = f"{HOST}:{kafka_port}"
        host = timescale.get_container_host_ip()
        timescale_url = f"postgresql://postgres@{host}:{timescale.get_exposed_port(5432)}/postgres"
        redis_url = f"redis://{redis.get_container_host_ip()}:{redis.get_exposed_port(6379)}/0"
        for service, url in (("kafka", kafka_url), ("postgres", timescale_url), ("redis", redis_url)):
            _wait(service, url)
        yield Servers(kafka_url, {}, timescale_url, redis_url, KAFKA_IMAGE, TIMESCALE_IMAGE, timescaledb=True)


def _docker_error() -> str | None:
    """Why Docker cannot be used; None: it can."""
    import docker
    from docker.errors import DockerException

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a client that fails to connect leaves its socket open
        wrong = None
        try:
            with contextlib.closing(docker.from_env()) as client:
                client.ping()
        except DockerException as error:
            wrong = str(error)
        gc.collect()
    return wrong


def _kafka_environment(port: int) -> dict[str, str]:
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "BROKER://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"BROKER://{HOST}:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "BROKER",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_LOG_RETENTION_MS": "-1",
        "KAFKA_LOG_MESSAGE_TIMESTAMP_AFTER_MAX_MS": "9223372036854775807",
    }


def _wait(service: str, url: str) -> None:
    deadline = time.monotonic() + CONTAINER_TIMEOUT_S
    wrong: str | None = "not asked yet"
    while (wrong := probe(service, url, {}, 2.0)) is not None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the container of {service} does not answer at {url}: {wrong}")
        time.sleep(0.2)


def make_database(server_url: str, name: str, *, timescaledb: bool) -> str:
    """Make an empty database, with TimescaleDB where the server has it; returns its address."""
    with psycopg.connect(server_url, autocommit=True) as session:
        session.execute(_sql(f'CREATE DATABASE "{name}"'))
    url = _with_database(server_url, name)
    if timescaledb:
        with psycopg.connect(url, autocommit=True) as session:
            session.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    return url


def drop_database(server_url: str, name: str) -> None:
    """Drop it, ending the sessions that a test left open."""
    with psycopg.connect(server_url, autocommit=True) as session:
        session.execute(_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


def _sql(statement: str) -> Any:
    return cast("Any", statement)  # names cannot be parameters; these are made of our own hex digits


def _with_database(url: str, name: str) -> str:
    return f"{url.rsplit('/', 1)[0]}/{name}"


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 90.0, every_s: float = 0.05) -> None:
    """Wait until the condition holds, looking less often the longer it takes: a look costs a connection.

    Raises:
        TimeoutError: it did not within ``timeout_s``; names ``what`` was waited for.
    """
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        if waited > timeout_s:
            raise TimeoutError(f"after {timeout_s} s still not: {what}")
        time.sleep(max(every_s, min(LONGEST_PAUSE_S, waited / 10)))


def passable(path: Path) -> None:
    """Let other users pass to a test's temporary folder; with several processes at once it lies a level deeper."""
    temporary = Path(tempfile.gettempdir())
    for folder in (path, *path.parents):
        if folder.is_relative_to(temporary) and folder != temporary:
            folder.chmod(0o755)


def kcat_config(stack: Servers) -> str:
    """The file by which kcat logs in, which `funnelwatch up` writes."""
    file = stack.data_dir / FOLDER / "kcat.conf" if stack.data_dir else None
    return str(file) if file and file.exists() else os.devnull


def docker_is_wanted() -> bool:
    """Whether this run takes its servers from Docker."""
    return _kind() == "docker"


def apache_is_wanted() -> bool:
    """Whether this run may use the embedded Apache Kafka, which needs Java and Maven."""
    return _kind() == "embedded" and _kafka() == "apache"


def not_on_tansu(what: str) -> pytest.MarkDecorator:
    """Marks a test of what Tansu does not do as Kafka does; where Apache Kafka is, it must run."""
    tansu = _kind() == "embedded" and _kafka() == "tansu"
    return pytest.mark.skipif(tansu, reason=f"NOT TESTED: Tansu {what}; Apache Kafka needs Java 17 and Maven")
