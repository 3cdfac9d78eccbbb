"""The detect agent's work: from records of the windows topic to published alerts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.codec import Decoder, Undecodable
from funnelwatch.sinks.errors import is_transient
from funnelwatch.sinks.retry import RetryPolicy
from funnelwatch.sinks.timescale.alerts import OvertakenError
from funnelwatch.stream.closing.windows import Assembler, is_plausible
from funnelwatch.stream.worker import metrics
from funnelwatch.stream.worker.ages import ages

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from funnelwatch.schemas.codec import Registry
    from funnelwatch.schemas.counts import ClosedWindow
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.stream.detector.detection import Detection

log = logging.getLogger(__name__)


class WindowEvaluation:
    """Assembles closed windows of their records, has them evaluated, and waits out outages. For one thread.

    Args:
        settings: topic, window.
        registry: the schema registry; None: there is none.
        detection: evaluates closed windows.
        stopping: set when the worker stops.
    """

    def __init__(
        self, settings: Settings, registry: Registry | None, detection: Detection, stopping: threading.Event
    ) -> None:
        self._settings = settings
        self._decode = Decoder("ClosedWindow", registry)
        self._detection = detection
        self._retry = RetryPolicy(stopping)
        self._assembler = Assembler()

    def __call__(self, values: Sequence[bytes]) -> None:
        """Evaluate the windows that these records complete; alerts are published when this returns.

        Raises:
            StoppedError: the worker stops first.
        """
        complete = [window for value in values if (window := self._window(value))]
        if not complete:
            return
        with metrics.EVALUATION_SECONDS.time():
            self._retry("detect", lambda: self._detection(complete), is_retried=_must_retry)
        ages.succeeded("evaluate")

    def _window(self, value: bytes) -> ClosedWindow | None:
        # Only funnelwatch writes to this topic; a record of another program must not stop the detection.
        settings = self._settings
        try:
            record = self._retry("schema registry: closed windows", lambda: self._decode(value))
        except Undecodable as error:
            log.error("%s: passed over: %s", settings.windows_topic, error)  # noqa: TRY400 - the sentence says it all
            return None
        if not is_plausible(record, settings.window_ms, wall_clock_ms() + int(settings.max_future_s * 1000)):
            log.error("%s: passed over: no window of %s s, or ahead of time", settings.windows_topic, settings.window_s)
            return None
        return self._assembler.add(record)


def _must_retry(error: Exception) -> bool:
    """Any error: a bug in the detector must not stop the counting, which shares this process.

    The same windows are tried again meanwhile. /healthz and the heartbeat that stays away report it, and a worker that
    stands still ends for its supervisor.
    """
    if not is_detect_outage(error):
        log.error("evaluating windows failed; the same windows are tried again", exc_info=error)
    return True


def is_detect_outage(error: Exception) -> bool:
    """Whether evaluating and publishing is tried again because a server is away, or another worker went on."""
    return is_transient(error) or isinstance(error, OvertakenError)
