"""Instrumentation never breaks an app: its own errors go to the log, and the app goes on."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

logger = logging.getLogger("funnelwatch.instrument")

TELL_EVERY_S = 10.0
_logged = {"at": -TELL_EVERY_S}


class Emits(Protocol):
    """Takes events and does not wait: a ``FunnelProducer`` or a ``MemoryProducer``."""

    def emit(self, event: Mapping[str, Any], /) -> bool:
        """Take one event."""
        ...


@contextlib.contextmanager
def quietly(what: str) -> Iterator[None]:
    """Log an error inside, such as an invalid field, not too often, and let the app go on."""
    try:
        yield
    except Exception as error:  # whatever it is, somebody wants to sign up
        now = time.monotonic()
        if now - _logged["at"] >= TELL_EVERY_S:
            _logged["at"] = now
            logger.exception("%s: not emitted: %s", what, error)  # noqa: TRY401
