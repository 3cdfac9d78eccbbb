"""Fixtures of all tests; servers are started by the first test that asks for one, so unit tests start nothing."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from funnelwatch.deploy.embedded import ports
from funnelwatch.deploy.embedded.apache_kafka import JVM_OPTIONS
from funnelwatch.deploy.embedded.stack import Kafka, Stack
from funnelwatch.schemas import redaction
from funnelwatch.schemas.settings import PREFIX, Settings, load_settings
from tests import extension
from tests.own import own_database, settings_of
from tests.stack import Servers, plan, servers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from pathlib import Path
    from types import FrameType

LONG = (
    "test_demo.py",
    "test_pipeline.py",
    "test_rebuild_windows.py",
    "test_wheel.py",
    "test_outage_seen.py",
    "test_no_command_prints_a_secret.py",
    "test_dropped_counts.py",
    "test_secured_kafka.py",
    "test_instrument_page.py",
    "test_instrumentation_live.py",
    "test_embedded_kafka.py",
    "test_alerting_live.py",
    "test_embedded_security.py",
    "test_redis_kinds.py",
    "test_produce_file.py",
    "test_query_api_fuzz.py",
    "test_board_frozen.py",
    "test_poisoned_flush.py",
    "test_slow_clients.py",
    "test_exit_without_kafka.py",
    "test_simulator.py",
    "test_pipeline_watch.py",
    "test_notifier.py",
    "test_embedded_stack.py",
    "test_cli_rate.py",
    "test_metrics.py",
    "test_retention.py",
    "test_running_totals.py",
    "test_backup.py",
    "test_bad_input.py",
    "test_block_properties.py",
    "test_ecom_incidents.py",
)
"""Files that take half a minute or more, the longest first: one that begins last keeps a process busy alone."""
USED = pytest.StashKey[Servers]()
TOLD = pytest.StashKey[set[str]]()

# How long an example takes on a busy machine says nothing about what it is an example of; and everybody has the same
# examples. Others are looked for on purpose: pytest --hypothesis-profile explore.
hypothesis_settings.register_profile(
    "explore", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=1_000
)
hypothesis_settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
hypothesis_settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Keep this shell's own settings out of the tests, and end as with Ctrl-C when told to end."""
    for name in [name for name in os.environ if name.startswith(PREFIX) and not name.startswith(f"{PREFIX}TEST_")]:
        del os.environ[name]

    # Brokers of tests live for seconds: compiling their hottest code a second time takes half of their CPU time.
    os.environ.setdefault(JVM_OPTIONS, "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # A run in the background; the programs that tests start would ignore Ctrl-C as well.
            signal.signal(signal.SIGINT, signal.default_int_handler)

    # Of several processes each has ports of its own: one that is free may be bound by another before a program starts.
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports.RANGE = ports.RANGE[number :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without looking for garbage: hardly an object of the modules and tests ever goes."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that the other processes work meanwhile, not afterwards."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_report_header() -> str:
    """Say which servers are going to be used."""
    return f"{plan()}\n{extension.plan()}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where tests run in several processes, each tells the one that reports which servers it used."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None and USED in session.config.stash:
        output["servers"] = said(session.config.stash[USED])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Keep what one of the processes told."""
    told = getattr(node, "workeroutput", {}).get("servers")
    if told:
        node.config.stash.setdefault(TOLD, set()).add(told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which servers were used."""
    used = set(config.stash.get(TOLD, set()))
    if USED in config.stash:
        used.add(said(config.stash[USED]))
    for line in sorted(used):
        terminalreporter.write_line(line)


def said(used: Servers) -> str:
    """One line on servers that were used."""
    return f"servers used: {used.kafka}; {used.database}"


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests() -> None:
    """A word that is a password in one test is an ordinary one in the next."""
    redaction.forget()


@pytest.fixture(autouse=True)
def _settings_read_anew() -> None:
    """A command run within the process reads the settings of its own test, not those that an earlier one has read."""
    load_settings.cache_clear()


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Undo what a command run within the process did to the root logger: its handlers are those of every later test."""
    root = logging.getLogger()
    level, before = root.level, [(handler, list(handler.filters)) for handler in root.handlers]
    yield
    root.setLevel(level)
    for handler, filters in before:
        handler.filters = filters


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """Fail the test that leaves a signal handled differently: a later one would fail, depending on the order."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    changed = [number for number in numbers if signal.getsignal(number) != before[number]]
    for number in changed:
        signal.signal(number, before[number])
    assert not changed, f"left changed: the handlers of {[signal.Signals(number).name for number in changed]}"


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Kafka, PostgreSQL and Redis for the whole run."""
    with servers() as running:
        request.config.stash[USED] = running
        yield running


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Makes stacks on a data folder of this test's own, for tests that start, kill and end one."""
    made: list[Stack] = []

    def make(kafka: Kafka | None = "tansu", environ: Mapping[str, str] | None = None, folder: str = "data") -> Stack:
        made.append(Stack(tmp_path / folder, kafka, environ))
        return made[-1]

    yield make
    for stack in made:
        stack.down(purge=True)


@pytest.fixture
def database_url(stack: Servers) -> Iterator[str]:
    """A fresh, empty database of this test's own."""
    with own_database(stack) as url:
        yield url


@pytest.fixture
def settings(stack: Servers, database_url: str, tmp_path: Path) -> Settings:
    """Settings with topics, consumer group, Redis prefix and database that no other test uses; nothing exists yet."""
    return settings_of(stack, database_url, tmp_path)
