"""Which program serves what, and starting it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from funnelwatch.deploy.embedded import apache_kafka, kafka_login, postgres_server, redis_server, tansu
from funnelwatch.deploy.embedded.errors import CancelledError, StackError
from funnelwatch.deploy.embedded.server import Context, launch

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.deploy.embedded.state import ServiceState


def start(
    context: Context, service: str, kafka: str, port: int, started: Callable[[ServiceState], None]
) -> ServiceState:
    """Choose a program for the service and start it.

    Raises:
        StackError: none can be used, or it does not start.
    """
    try:
        if service == "kafka":
            return _kafka(context, kafka, port, started)
        choose = postgres_server.choose if service == "postgres" else redis_server.choose
        return launch(choose(context), port, started)
    except psycopg.Error as error:
        raise StackError(f"The database could not be set up: {error}. See {context.log(service)}.") from error
    except OSError as error:
        raise StackError(
            f"{service} could not be set up in {context.data_dir}: {error.strerror or error}"
            f"{f' ({error.filename})' if error.filename else ''}. Repair that, or name another folder with "
            "FUNNELWATCH_DATA_DIR."
        ) from error


def _kafka(context: Context, kafka: str, port: int, started: Callable[[ServiceState], None]) -> ServiceState:
    if kafka == "tansu":
        return launch(tansu.choose(context, "it was asked for"), port, started)
    had_data = apache_kafka.has_data(context.data_dir)
    try:
        return launch(kafka_login.choose(context), port, started)
    except CancelledError:
        raise
    except StackError as error:
        reason = str(error).rstrip(".")
        if kafka == "apache":
            raise StackError(f"Apache Kafka cannot run: {reason}. Repair that, or use --kafka tansu.") from error
        if had_data or apache_kafka.has_data(context.data_dir):
            raise StackError(
                f"The topics in {context.data_dir} are Apache Kafka's, and it cannot run: {reason}. Repair that, or go "
                "on without these topics with --kafka tansu."
            ) from error
    return launch(tansu.choose(context, f"Apache Kafka is not possible: {reason}"), port, started)
