"""Instrumentation never breaks what it watches: a fault of its own is logged, and the app goes on."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("funnelwatch.instrument")

TELL_EVERY_S = 10.0
_told = {"at": -TELL_EVERY_S}


class Emits(Protocol):
    """What takes events and does not wait: a ``FunnelProducer``."""

    def emit(self, /, **fields: Any) -> bool:
        """Take one event."""


@contextlib.contextmanager
def quietly(what: str) -> Iterator[None]:
    """An error inside, such as of a field that cannot be so, goes to the log, not too often, and nowhere else."""
    try:
        yield
    except Exception as error:  # whatever it is, somebody wants to sign up
        now = time.monotonic()
        if now - _told["at"] >= TELL_EVERY_S:
            _told["at"] = now
            logger.exception("an event of %s was not emitted: %s", what, error)  # noqa: TRY401
