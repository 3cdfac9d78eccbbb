"""``StepShown``: a step that an app shows and verifies within one block of code."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Self

from funnelwatch.producers.client.fields import with_dimensions
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.events import Phase, Status

if TYPE_CHECKING:
    from types import TracebackType

    from funnelwatch.producers.client.quiet import Emits

logger = logging.getLogger("funnelwatch.producer")


class StepShown:
    """Emits the IMPRESSION on entry, and a POST_VERIFICATION at every ``success()`` and ``failure()``.

    Several verifications are possible: a wrong code, then the right one. Leaving the block without one emits nothing
    more: the person has gone, and the missing success lowers the rate by itself. An exception passes and emits nothing
    either: an error of the app says nothing about the input. A second success of one impression would make a rate
    above 1; it is left out, with a warning in the log.

    ``duration_ms`` is measured on the monotonic clock, and the verification's ts is the impression's plus the
    duration, so that a clock that is set meanwhile cannot make it negative.
    """

    def __init__(self, producer: Emits, session_id: str, step: str, fields: dict[str, Any]) -> None:
        self._producer = producer
        self._fields = {**fields, "sign_up_session_id": session_id, "step": step}
        self._succeeded = False
        self._shown_at = self._started = 0

    def __enter__(self) -> Self:
        """Emit the impression."""
        self._shown_at, self._started = self._fields.pop("ts", None) or wall_clock_ms(), time.monotonic_ns()
        self._producer.emit({**self._fields, "phase": Phase.IMPRESSION, "ts": self._shown_at})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Emit nothing, and let an exception pass."""

    def success(self, **dimensions: str | None) -> None:
        """The server has accepted the input; ``dimensions`` add to those of the step."""
        if self._succeeded:
            logger.warning("step %s: a second success of one impression is left out", self._fields["step"])
            return
        self._succeeded = True
        self._verified(Status.SUCCESS, dimensions)

    def failure(self, **dimensions: str | None) -> None:
        """The server has rejected the input; ``dimensions`` add to those of the step."""
        self._verified(Status.FAILURE, dimensions)

    def _verified(self, status: Status, dimensions: dict[str, str | None]) -> None:
        if not self._started:
            raise RuntimeError("the step has not been entered: use 'with producer.step(...) as step:'")
        duration_ms = (time.monotonic_ns() - self._started) // 1_000_000
        verified = {"phase": Phase.POST_VERIFICATION, "status": status, "duration_ms": duration_ms}
        event = {**self._fields, **verified, "ts": self._shown_at + duration_ms}
        self._producer.emit(with_dimensions(event, dimensions))
