"""The embedded stack: Kafka, PostgreSQL and Redis on 127.0.0.1, started, watched and ended together."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import psutil

from funnelwatch.deploy.embedded import external, folder, process, starting
from funnelwatch.deploy.embedded.errors import CancelledError, StackError
from funnelwatch.deploy.embedded.ports import free_ports
from funnelwatch.deploy.embedded.postgres_place import existing_outside
from funnelwatch.deploy.embedded.probe import probe
from funnelwatch.deploy.embedded.server import Context
from funnelwatch.deploy.embedded.state import SERVICES, ServiceState, StackState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future

Kafka = Literal["auto", "apache", "tansu"]
PROBE_S = 10.0
STOP = {
    "apache-kafka": (signal.SIGTERM, 20.0),
    "tansu": (signal.SIGTERM, 1.0),
    "postgresql": (signal.SIGINT, 30.0),
    "": (signal.SIGTERM, 10.0),
}
"""By program: the signal on which it ends in good order, and how long it is given, s."""


@dataclass(frozen=True)
class ServiceStatus:
    """One service now."""

    service: str
    up: bool | None
    """None: the server is optional, and none is configured."""
    error: str
    """Why it is not up; empty when it is."""
    state: ServiceState | None
    """The recorded service; None: it was never started."""


class Stack:
    """The embedded stack of one data folder.

    Args:
        data_dir: where data, logs and state are kept; made when missing.
        kafka: ``apache`` or ``tansu``, or ``auto``: Apache Kafka where Java and Maven work, else Tansu; None: the value
            that the last ``up`` of this data folder named, at first ``auto``.
        environ: where PATH, HOME and the FUNNELWATCH_… addresses of existing servers are read; default: the process's.
    """

    def __init__(
        self, data_dir: Path | str, kafka: Kafka | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        """Starts nothing."""
        if kafka is not None and kafka not in get_args(Kafka):
            raise StackError(f"kafka is {', '.join(get_args(Kafka))}, not {kafka}")
        self.data_dir = Path(data_dir).absolute()
        self.kafka = kafka
        self.environ = dict(os.environ if environ is None else environ)
        self._saving = threading.Lock()

    def up(self, report: Callable[[str], None]) -> StackState:
        """Start what does not run; what runs is kept. Returns when every service answers.

        ``report`` gets progress, a line at a time, from several threads. After any error, Ctrl-C included,
        the services that this call started are ended again before the error is raised.

        Raises:
            StackError: a service cannot be started, or a named server does not answer; the message says what to do.
        """
        folder.make(self.data_dir)
        with folder.locked(self.data_dir, report):
            state = StackState.load(self.data_dir)
            named = external.named(self.environ, state)
            external.check(named, external.kafka_config(self.environ))
            state.kafka = self.kafka or state.kafka
            self._end_unusable(state, named, report)
            for service, url in named.items():
                state.services[service] = external.state(service, url)
            missing = [service for service in SERVICES if not self._kept(state, service)]
            self._start(state, missing, report)
            state.save(self.data_dir)
            return state

    def status(self) -> list[ServiceStatus]:
        """Every service as it is now; asks each, so it takes up to some seconds when one hangs."""
        state = StackState.load(self.data_dir)
        for service, url in external.named(self.environ, state).items():
            state.services[service] = external.state(service, url)
        config = external.kafka_config(self.environ)
        return [self._status(service, state.services.get(service), config) for service in SERVICES]

    def down(self, report: Callable[[str], None] = lambda line: None, *, purge: bool = False) -> None:
        """End every service of this data folder, recorded or not; with ``purge`` delete its data, logs and state.

        Raises:
            StackError: a process could not be ended.
        """
        if not self.data_dir.is_dir():
            return
        with folder.locked(self.data_dir, report):
            state = StackState.load(self.data_dir)
            self._end([service for service in state.services.values() if not service.external], report)
            self._end_strays(state, report)
            for service in state.services.values():
                service.pid = service.created = None
            if purge:
                folder.purge(self.data_dir)
            elif state.services:
                state.services = {name: service for name, service in state.services.items() if not service.external}
                state.save(self.data_dir)

    @property
    def _postgres_data(self) -> Path:
        return (existing_outside(self.data_dir) or self.data_dir / "postgres") / "data"

    def _status(self, service: str, state: ServiceState | None, config: Mapping[str, str]) -> ServiceStatus:
        if state is None:
            return ServiceStatus(service, False, "not started", None)
        if not state.is_used:
            return ServiceStatus(service, None, "", state)
        if not state.external and not process.alive(state.pid, state.created):
            return ServiceStatus(service, False, "ended by itself" if state.pid else "stopped", state)
        wrong = probe(service, state.url, config if state.external else state.config, PROBE_S)
        return ServiceStatus(service, wrong is None, wrong or "", state)

    def _kept(self, state: StackState, service: str) -> bool:
        recorded = state.services.get(service)
        return recorded is not None and (recorded.external or recorded.pid is not None)

    def _end_unusable(self, state: StackState, named: Mapping[str, str], report: Callable[[str], None]) -> None:
        """End what runs but does not answer, is no longer wanted or is not recorded; forget what does not run."""
        for service, recorded in state.services.items():
            running = process.alive(recorded.pid, recorded.created)
            if recorded.external or running is None:
                recorded.pid = recorded.created = None
                continue
            if service == "kafka" and state.kafka not in {"auto", recorded.program.split()[0].removesuffix("-kafka")}:
                raise StackError(
                    f"{recorded.program} runs for this data folder, and --kafka {state.kafka} asks for another: run "
                    "`funnelwatch down` first. Topics are not carried over from one to the other."
                )
            wrong: str | None = None
            if service in named:
                wrong = "another server is named" if named[service] else "no such server is configured"
            elif recorded.is_open and not recorded.program.startswith("tansu"):
                wrong = "it was started without a password"
            else:
                wrong = probe(service, recorded.url, recorded.config, PROBE_S)
            if wrong is not None:
                report(f"{recorded.program}: ending it ({wrong})")
                self._end([recorded], lambda line: None)
        # An external one that is no longer named gives way to one of ours.
        state.services = {name: service for name, service in state.services.items() if not service.external}
        self._end_strays(state, report)
        state.save(self.data_dir)

    def _start(self, state: StackState, missing: list[str], report: Callable[[str], None]) -> None:
        context = Context(self.data_dir, self.environ, report, threading.Event())
        remembered = {name: state.services[name].port if name in state.services else None for name in missing}
        ports = free_ports(remembered)
        begun: dict[str, ServiceState] = {}

        def started(service: ServiceState) -> None:
            with self._saving:
                begun[service.service] = state.services[service.service] = service
                state.save(self.data_dir)

        futures: list[Future[ServiceState]] = []
        try:
            with ThreadPoolExecutor(max_workers=len(SERVICES), thread_name_prefix="stack") as pool:
                try:
                    futures += [
                        pool.submit(starting.start, context, name, state.kafka, ports[name], started)
                        for name in missing
                    ]
                    wait(futures, return_when=FIRST_EXCEPTION)
                finally:
                    # Nothing when all are ready; else the others give up, and the pool waits until they have.
                    context.cancel.set()
            for service in _results(futures):
                state.services[service.service] = service
                if service.service == "postgres":
                    state.timescaledb = not any(note.startswith("plain") for note in service.notes)
        except BaseException:
            with _uninterrupted():
                self._end(list(begun.values()), lambda line: None)
                state.save(self.data_dir)
            raise

    def _end(self, services: list[ServiceState], report: Callable[[str], None]) -> None:
        def end(service: ServiceState) -> None:
            running = process.alive(service.pid, service.created)
            if running is not None:
                process.stop(running, *STOP.get(service.program.split()[0], STOP[""]))
                report(f"{service.program}: stopped")
            service.pid = service.created = None

        with ThreadPoolExecutor(max_workers=len(SERVICES), thread_name_prefix="stack") as pool:
            list(pool.map(end, services))

    def _end_strays(self, state: StackState, report: Callable[[str], None]) -> None:
        """End processes of this folder that no state records, after a killed start or a deleted state."""
        recorded = {service.pid for service in state.services.values() if service.pid}
        found = process.strays(str(self.data_dir), self._postgres_data)
        for stray in [one for one in found if not recorded.intersection(_ancestry(one))]:
            report(f"ending a leftover process {stray.pid} of this data folder")
            process.stop(stray, signal.SIGTERM, 2.0)
            if process.running(stray):
                raise StackError(f"Process {stray.pid} of {self.data_dir} cannot be ended: end it, then try again.")


def _ancestry(one: psutil.Process) -> set[int]:
    with contextlib.suppress(psutil.Error):
        return {one.pid, *(parent.pid for parent in one.parents())}
    return {one.pid}


def _results(futures: list[Future[ServiceState]]) -> list[ServiceState]:
    """The services that were started; raises a cause before the cancellations that it led to."""
    errors = [error for future in futures if (error := future.exception()) is not None]
    errors.sort(key=lambda error: isinstance(error, CancelledError))
    if errors:
        raise errors[0]
    return [future.result() for future in futures]


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C while cleaning up must not leave half of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
