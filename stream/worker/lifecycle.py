"""The lifetime of a worker's components: each is started once, in a stated order, and stopped in reverse.

::

    start:  heartbeat -> fetcher -> validation -> aggregator      a failure here stops validation, fetcher, heartbeat
    stop:   heartbeat <- fetcher <- validation <- aggregator      an error in one does not keep the others running
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.sinks.retry import StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from funnelwatch.stream.worker.threads import Threads

T = TypeVar("T")

log = logging.getLogger(__name__)

STOP_S = 2.0
"""A component may take this long to stop, s; then the next one stops: a server that hangs must not keep the worker in
the consumer group."""


class NotRunningError(FunnelwatchError):
    """A component is used before it is started, or started twice: a bug."""


class Component(Generic[T]):
    """One component of a worker, from ``start`` to ``stop``.

    Args:
        name: for errors and the log.
        thread: the thread of ``Threads`` that uses it; it starts and stops there as well.
        make: makes it; pushes onto the stack what must be closed when the component stops.
        kafka_client: the purpose of its Kafka client, for people; empty: it has none. One that has must have a method
            ``ask_kafka``.
    """

    def __init__(self, name: str, thread: str, make: Callable[[ExitStack], T], *, kafka_client: str = "") -> None:
        self.name = name
        self.thread = thread
        self.kafka_client = kafka_client
        self._make = make
        self._instance: T | None = None
        self._was_stopped = False
        self._resources = ExitStack()

    @property
    def running(self) -> T:
        """The component.

        Raises:
            StoppedError: it is stopped. Tasks that go on for a moment meet this at every end of a worker.
            NotRunningError: it is not started.
        """
        if self._instance is None:
            if self._was_stopped:
                raise StoppedError(f"the component {self.name!r} is stopped")
            raise NotRunningError(f"the component {self.name!r} is not running")
        return self._instance

    @property
    def if_running(self) -> T | None:
        """The component; None before it is started and after it is stopped. From any thread."""
        return self._instance

    def start(self) -> T:
        """Make the component; what it has opened is closed if it fails.

        Raises:
            NotRunningError: it runs already.
        """
        if self._instance is not None:
            raise NotRunningError(f"the component {self.name!r} is started twice")
        with ExitStack() as resources:
            self._instance = self._make(resources)
            self._was_stopped = False
            self._resources = resources.pop_all()
        return self._instance

    def stop(self) -> None:
        """Close what the component has opened, the newest first; does nothing where it does not run."""
        self._was_stopped = self._was_stopped or self._instance is not None
        self._instance = None
        self._resources.close()


class Lifecycle:
    """Starts components in their order, and stops those that run in reverse.

    Args:
        components: in the order in which they start; each may use those before it.
        threads: where they live.
    """

    def __init__(self, components: Sequence[Component[Any]], threads: Threads) -> None:
        self._components = components
        self._threads = threads

    async def start(self) -> None:
        """Start all; a failure stops those that have started, and is raised."""
        try:
            for component in self._components:
                await self._threads.run(component.thread, component.start)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop all that run; an error, or one that takes too long, is logged and the others stop all the same."""
        for component in reversed(self._components):
            if component.if_running is None:
                continue
            try:
                await asyncio.wait_for(self._threads.run(component.thread, component.stop), STOP_S)
            except TimeoutError:
                log.warning("the component %r does not stop within %.0f s: going on without it", component.name, STOP_S)
            except Exception:
                log.exception("the component %r does not stop properly", component.name)
