"""The threads of a worker: one for each kind of blocking work, so that none waits for another."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from funnelwatch.sinks.errors import ErrorClass, classify
from funnelwatch.sinks.retry import StoppedError
from funnelwatch.sinks.servers import servers
from funnelwatch.stream.worker import metrics
from funnelwatch.stream.worker.kafka_admin import kafka_answers, silent_clients

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import faust
    from mode import Service

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.stream.worker.components import WorkerComponents

S = TypeVar("S", bound="Service")

CONTACT_THREADS = ("kafka", "database", "redis")
"""Each server is asked on a thread of its own, so that one that hangs does not hide the others."""

THREADS = ("intake", "count", "cache", "metrics", "close", "detect", "watchdog", "maintenance", *CONTACT_THREADS)


class Threads:
    """Runs blocking functions; those of one thread run one after the other, in the order of the calls."""

    def __init__(self) -> None:
        # They start with their first function, so a worker that never starts has none.
        self._pools = {name: ThreadPoolExecutor(1, thread_name_prefix=name) for name in THREADS}

    async def run(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """The function's result, from that thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pools[name], function, *arguments)


log = logging.getLogger(__name__)


async def one_round(
    threads: Threads, service: Service, thread: str, work: Callable[[], object], task: str
) -> Exception | None:
    """Work once; an error that may pass is noted and returned, any other ends the worker.

    Raises:
        StoppedError: the worker stops.
    """
    try:
        await threads.run(thread, work)
        servers.done(task)
    except StoppedError:
        raise
    except Exception as error:  # noqa: BLE001 - told apart here
        # A fresh worker would meet what the database rejects as well: to end would stop the counting, too.
        if classify(error) is not ErrorClass.BUG:
            servers.failed(task, error)
        else:
            await service.crash(error)
        return error
    return None


def until_stopped(task: Callable[[S], Awaitable[None]]) -> Callable[[S], Awaitable[None]]:
    """A task of a service that ends where a component is stopped: at the end of a worker that is no error."""

    @wraps(task)
    async def ended(service: S) -> None:
        try:
            await task(service)
        except StoppedError as error:
            log.debug("%s ends: %s", type(service).__name__, error)

    return ended


async def find_stuck(app: faust.App, settings: Settings, components: WorkerComponents, threads: Threads) -> str | None:
    """Why the worker must end: it has unread records and reads none, or a Kafka client is dead; None: it goes on."""
    fetcher, status = components.fetcher.running, components.status
    try:
        places = await threads.run("watchdog", fetcher.places, settings.events_topic)
        read = {tp: await app.consumer.position(tp) for tp in app.consumer.assignment()}
        positions = {tp.partition: at for tp, at in read.items() if tp.topic == settings.windows_topic and at}
        places |= await threads.run("watchdog", fetcher.places, settings.windows_topic, positions)
        places |= await threads.run("watchdog", components.metric_fetcher.running.places, settings.metrics_topic)
    except Exception as error:  # noqa: BLE001 - Kafka is away, or partitions have just moved: nothing is known
        log.debug("the ends of the logs are not known: %s", error)
        status.health.standstill.unknown()
    else:
        status.health.standstill.update(time.monotonic(), places)
    assigned = fetcher.assignments().values()
    metrics.ASSIGNED.set(len(assigned))
    metrics.FORGOTTEN_EARLY.labels("ids").set(sum(one.seen.shortened for one in assigned))
    metrics.FORGOTTEN_EARLY.labels("sessions").set(sum(one.sessions.shortened for one in assigned if one.sessions))
    silent = await threads.run("watchdog", silent_clients, components.all)
    dead: str | None = await threads.run(
        "watchdog", status.dead_client.check, time.monotonic(), silent, lambda: kafka_answers(settings)
    )
    return dead or status.health.must_exit()
