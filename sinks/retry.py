"""Outages pause the work: whatever needs a server is tried again until it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from confluent_kafka import KafkaException

from funnelwatch.schemas.codec import RegistryUnavailable
from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.sinks.servers import servers
from funnelwatch.sinks.timescale.errors import ErrorKind, is_outage, kind_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

T = TypeVar("T")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0


class StoppedError(FunnelwatchError):
    """The worker is stopping; what was under way is left for whoever comes next, and nothing is lost."""


def until_done(
    operation: Callable[[], T],
    *,
    what: str,
    is_outage: Callable[[Exception], bool],
    stopping: threading.Event,
    on_retry: Callable[[], None] | None = None,
) -> T:
    """Run an operation until it succeeds, with growing pauses while a server is away.

    Args:
        operation: what to do; it must bear being repeated.
        what: a name for the log, "PostgreSQL: flush".
        is_outage: whether an error is one to wait out; any other is raised.
        stopping: set when the worker stops.
        on_retry: called after each failure.

    Raises:
        StoppedError: the worker stops before the operation has succeeded.
    """
    pause = FIRST_PAUSE_S
    failed = False
    while True:
        try:
            result = operation()
        except Exception as error:
            if not is_outage(error):
                raise
            failed = True
            servers.failed(what, error)
            if on_retry:
                on_retry()
            if stopping.wait(pause):
                raise StoppedError(what) from error
            pause = min(pause * 2, LONGEST_PAUSE_S)
        else:
            if failed:
                servers.done(what)
            return result


class RetryPolicy:
    """Has operations done however long the database, Kafka or the schema registry are away, as ``until_done``.

    Args:
        stopping: set when the worker stops.
        meanwhile: called after each failure.
    """

    def __init__(self, stopping: threading.Event, meanwhile: Callable[[], None] = lambda: None) -> None:
        self._stopping = stopping
        self._meanwhile = meanwhile

    def __call__(
        self, what: str, operation: Callable[[], T], *, is_away: Callable[[Exception], bool] | None = None
    ) -> T:
        """The operation's result; retries are counted under ``what``.

        Args:
            what: a name for the log and the metric, "PostgreSQL: flush".
            operation: what to do; must be idempotent.
            is_away: whether an error is one to wait out; None: ``is_server_away``.

        Raises:
            StoppedError: the worker stops before the operation has succeeded.
        """
        return until_done(
            operation, what=what, is_outage=is_away or is_server_away, stopping=self._stopping, on_retry=self._meanwhile
        )


def is_server_away(error: Exception) -> bool:
    """Whether the database, Kafka or the schema registry is away."""
    return is_outage(error) or isinstance(error, RegistryUnavailable | KafkaException)


def may_pass(error: Exception) -> bool:
    """Whether a task beside the counting is tried again in its next round; any other error ends the worker.

    What the database rejects (a limit that an administrator has set, a trigger) is met by a fresh worker as well: to
    end would stop the counting, too, again and again.
    """
    return is_server_away(error) or kind_of(error) is ErrorKind.DATA
