"""The Faust application class of a worker: it prepares the servers, starts the components, and ends in time."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING

import faust
from pydantic import ValidationError

from funnelwatch.producers.kafka.log_throttle import throttle_root
from funnelwatch.schemas.kafka_config import KafkaConfigError
from funnelwatch.schemas.settings import PREFIX, explain, load_settings
from funnelwatch.stream.worker.broker_credentials import broker_addresses, broker_credentials
from funnelwatch.stream.worker.lifecycle import Lifecycle
from funnelwatch.stream.worker.web import GuardedWeb

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.stream.worker.broker_credentials import Credentials
    from funnelwatch.stream.worker.components import WorkerComponents
    from funnelwatch.stream.worker.threads import Threads

log = logging.getLogger(__name__)

GIVE_UP_AFTER_S = 8.0
"""A worker that is asked to stop ends after this long, even if a server hangs; containers are killed after ten."""

NOISY = ("aiokafka", "faust", "mode", "funnelwatch.stream.librdkafka", "funnelwatch.topics")
"""Loggers that write a line per retry while Kafka is away."""


class FunnelwatchApp(faust.App):
    """A Faust app that waits for its servers before it starts, and that owns the components of the worker.

    Attributes:
        components: started before any agent or service, stopped after all of them.
        threads: where components live.
    """

    components: WorkerComponents
    threads: Threads
    lifecycle: Lifecycle

    async def on_start(self) -> None:
        """Make topics first, since Faust looks for its topics when it starts; then start the components."""
        throttle_root(*NOISY)
        await self.threads.run("count", self.components.prepare)
        await self.lifecycle.start()
        await super().on_start()

    async def on_shutdown(self) -> None:
        """Stop the components, now that no agent or service uses them: consumers leave their groups."""
        await self.lifecycle.stop()
        await super().on_shutdown()

    async def stop(self) -> None:
        """End each wait for a server first, then stop the services; give up on a server that hangs."""
        stopping = self.components.stopping
        if not stopping.is_set():
            stopping.set()
            give_up = threading.Timer(GIVE_UP_AFTER_S, end_at_once)
            give_up.daemon = True
            give_up.start()
        await super().stop()

    def _new_web(self) -> GuardedWeb:
        """The pages, behind limits."""
        return GuardedWeb(self)

    def _create_directories(self) -> None:
        """Faust makes folders for tables in the current folder; funnelwatch has no tables."""


def make_app(
    settings: Settings, credentials: Credentials | None, components: WorkerComponents, threads: Threads
) -> FunnelwatchApp:
    """The Faust app of a worker, not started."""
    app = FunnelwatchApp(
        settings.consumer_group,
        broker=[f"kafka://{address}" for address in broker_addresses(settings)],
        broker_credentials=credentials,
        store="memory://",
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 5,
        broker_commit_interval=1.0,
        stream_wait_empty=False,
        web_bind=settings.web_host,
        web_port=settings.web_port or free_port(settings.web_host),
        web_in_thread=False,
        worker_redirect_stdouts=False,
    )
    app.components = components
    app.threads = threads
    app.lifecycle = Lifecycle(components.all, threads)
    return app


def free_port(host: str) -> int:
    """A port that nothing listens on now; Faust accepts no port 0."""
    with socket.create_server((host, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def end_at_once() -> None:
    """End the process although a call still waits for a server that hangs; the next worker repeats that call."""
    log.error("a server has not answered for %.0f s: ending without it; nothing is lost", GIVE_UP_AFTER_S)
    logging.shutdown()
    os._exit(1)


def read_settings() -> tuple[Settings, Credentials | None]:
    """Read the settings, and what Faust needs to connect to Kafka; end the process if that cannot work.

    ``faust -A funnelwatch.stream.app worker`` imports the app itself, so that nobody else could turn an error into a
    sentence.
    """
    try:
        settings = load_settings()
        return settings, broker_credentials(settings.revealed_kafka_config)
    except ValidationError as error:
        messages = explain(error)
    except KafkaConfigError as error:
        messages = [f"{PREFIX}KAFKA_CONFIG: {error}"]
    for message in messages:
        print(f"Error: {message}", file=sys.stderr)
    sys.exit(2)
