"""One retry policy: waits out outages with growing, jittered pauses, and stops at once when the process stops."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.sinks.errors import is_transient
from funnelwatch.sinks.servers import servers

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

T = TypeVar("T")

LARGEST_EXPONENT = 30
"""Beyond this, doubling changes nothing, and a float would overflow."""


class StoppedError(FunnelwatchError):
    """The process stops before an operation has succeeded; its successor repeats the operation, and nothing is lost."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pause after the nth failure in a row: doubling, with jitter, at least as long as the server asks for.

    Attributes:
        first_s: pause after the first failure, s.
        longest_s: longest pause, s, unless the server asks for more.
        longest_asked_s: longest pause that a server may ask for, s.
    """

    first_s: float = 0.1
    longest_s: float = 5.0
    longest_asked_s: float = 3_600.0

    def pause(self, failures: int, chance: float, asked_s: float | None = None) -> float:
        """The pause, s.

        Args:
            failures: failures in a row, 1 or more.
            chance: in [0, 1), chooses within the jitter: half the pause to the whole, so that many workers do not
                return to a server at the same moment.
            asked_s: pause that the server asks for, s (``Retry-After``).
        """
        grown = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, LARGEST_EXPONENT))
        return max(grown * (0.5 + chance / 2), min(asked_s or 0.0, self.longest_asked_s))


DEFAULT_BACKOFF = Backoff()


class RetryPolicy:
    """Repeats an operation until it succeeds, while its errors are transient.

    ``funnelwatch.sinks.servers`` logs and counts the outage. An operation must be idempotent.

    Args:
        stopping: set when the process stops; ends a pause within milliseconds.
        on_retry: called after each failure.
        backoff: the pauses; None: ``DEFAULT_BACKOFF``.
        wait: pauses for so many seconds and returns whether the process stops; None: waits for ``stopping``.
        chance: a number in [0, 1) for the jitter.
    """

    def __init__(
        self,
        stopping: threading.Event,
        on_retry: Callable[[], None] = lambda: None,
        *,
        backoff: Backoff | None = None,
        wait: Callable[[float], bool] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._on_retry = on_retry
        self._backoff = backoff or DEFAULT_BACKOFF
        self._wait = wait or stopping.wait
        self._chance = chance

    def __call__(
        self,
        what: str,
        operation: Callable[[], T],
        *,
        is_retried: Callable[[Exception], bool] = is_transient,
    ) -> T:
        """The operation's result.

        Args:
            what: a name for the log and the metric, "PostgreSQL: flush".
            operation: must be idempotent.
            is_retried: whether an error is waited out; any other is raised.

        Raises:
            StoppedError: the process stops before the operation has succeeded.
        """
        failures = 0
        while True:
            try:
                result = operation()
            except Exception as error:
                if not is_retried(error):
                    raise
                failures += 1
                servers.failed(what, error)
                self._on_retry()
                if self._wait(self._backoff.pause(failures, self._chance())):
                    raise StoppedError(what) from error
            else:
                if failures:
                    servers.done(what)
                return result
