"""Throttles the log of Kafka clients while Kafka is away: one line in half a minute instead of one per retry."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY_S = 30.0

CONNECTION = re.compile(
    r"FAIL|ALLBROKERSDOWN|brokers are down|TRANSPORT|SESSTMOUT|HBERR|Disconnected|Unable connect"
    r"|Unable to update metadata|Failed fetch messages|Coordinator Request failed|coordinator dead|Heartbeat"
    r"|Connection|not ready|Kafka does not answer|Topic .* not found in cluster metadata"
)
"""Matches lines that report an unreachable broker; one of them is logged in half a minute."""


class LogThrottle(logging.Filter):
    """A filter for handlers or loggers; other loggers pass.

    Args:
        loggers: first parts of the names of the loggers that are throttled.
        only_connection: throttle only lines about unreachable brokers: for funnelwatch's own loggers.
        monotonic: the clock, s.
    """

    def __init__(
        self, *loggers: str, only_connection: bool = False, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._only_connection = only_connection
        self._loggers = loggers
        self._monotonic = monotonic
        self._passed: dict[str, float] = {}
        self._dropped: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log a line; adds how many similar lines were dropped."""
        if not any(record.name == name or record.name.startswith(f"{name}.") for name in self._loggers):
            return True
        text = record.getMessage()
        if CONNECTION.search(text):
            key = "connection"
        elif record.levelno >= logging.WARNING and not self._only_connection:
            key = f"{record.name} {record.msg}" if record.args else f"{record.name} {text[:60]}"
        else:
            return True
        now = self._monotonic()
        if now - self._passed.get(key, float("-inf")) < EVERY_S:
            self._dropped[key] = self._dropped.get(key, 0) + 1
            return False
        self._passed[key] = now
        if dropped := self._dropped.pop(key, 0):
            record.msg, record.args = f"{text} (and {dropped} similar lines)", ()
        return True


def throttle_root(*loggers: str, only_connection: bool = False) -> None:
    """Throttle these loggers at every handler of the root logger. Idempotent."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(one, LogThrottle) for one in handler.filters):
            handler.addFilter(LogThrottle(*loggers, only_connection=only_connection))
