"""The closer: publishes each window that the watermark has passed, and again each that late events have changed.

One worker closes at a time, by a lock of the database. A round, for each funnel:

1. events for windows before W become late (``start_closing``); flushes that did not know are committed by then;
2. the windows before W are read, filled up with zeros, and published;
3. that they are published is recorded.

A crash in between publishes windows again: those that close, as the same revision 0; those that late events changed,
as the next revision, since more may have changed meanwhile. Readers keep the highest revision.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from funnelwatch.producers.kafka.acked import AckedProducer, Message
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.codec import Encoder
from funnelwatch.schemas.times import last_closed
from funnelwatch.sinks.failpoints import failpoint
from funnelwatch.stream.closing.watermark import topic_watermark
from funnelwatch.stream.closing.windows import ActiveSeries, parts_of
from funnelwatch.stream.worker import metrics
from funnelwatch.stream.worker.ages import ages

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Container, Iterable

    from funnelwatch.schemas.codec import Registry
    from funnelwatch.schemas.counts import ClosedWindow
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.closing import ClosingStore, FunnelProgress

log = logging.getLogger(__name__)

WINDOWS_AT_ONCE = 500
"""Windows that are read, published and recorded together, at the most."""

ROWS_AT_ONCE = 200_000
"""About so many rows are held in memory together."""


def windows_at_once(series: int) -> int:
    """How many windows to close together where this many series are active; one where nothing is known yet."""
    return max(1, min(WINDOWS_AT_ONCE, ROWS_AT_ONCE // series)) if series else 1


class Closer:
    """Closes windows, a round at a time, on one thread."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: ClosingStore,
        partitions: Callable[[], int],
        registry: Registry | None,
        stopping: threading.Event,
        declared: Container[str] = (),
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._settings = settings
        self._declared = declared
        self._store = store
        self._partitions = partitions
        self._encode = Encoder("ClosedWindow", registry, is_strict=False)
        self._stopping = stopping
        self._now_ms = now_ms
        self._horizon_ms = int(settings.active_horizon_s * 1000)
        self._active: dict[str, tuple[int, ActiveSeries]] = {}
        self._producer = AckedProducer(settings, "funnelwatch-closer")

    def ask_kafka(self, timeout_s: float) -> None:
        """Return if Kafka answers this client. From any thread.

        Raises:
            KafkaException: it does not.
        """
        self._producer.ask_kafka(self._settings.windows_topic, timeout_s)

    def round(self) -> int:
        """Close what can be closed now; how many windows were published.

        Raises:
            psycopg.OperationalError, KafkaException: an outage; the next round goes on where this one was.
        """
        with self._store.sole_closer(self._settings.events_topic) as sole:
            if not sole:
                self._active.clear()
                ages.closes_no_more()
                return 0
            now_ms = self._now_ms()
            watermark = topic_watermark(
                self._store.watermarks(self._settings.events_topic),
                self._partitions(),
                int(self._settings.allowed_disorder_s * 1000),
                now_ms,
            )
            if watermark is None:
                return 0
            ages.watermark(watermark)
            ages.succeeded("close")
            through = last_closed(watermark, self._settings.window_ms)
            published = 0
            # Declared funnels first, so that invented names do not delay them.
            for funnel in sorted(self._store.funnels(), key=lambda one: one.funnel not in self._declared):
                published += self._close(funnel, through)
                published += self._revise(funnel)
            return published

    def _close(self, progress: FunnelProgress, through: int) -> int:
        """Publish the windows of one funnel that start before ``through``, oldest first."""
        funnel, window_ms = progress.funnel, self._settings.window_ms
        start = progress.closed_through
        if start is None:
            start = self._store.next_window(funnel, 0)
            if start is None:
                return 0
        published = 0
        while start < through and not self._stopping.is_set():
            active = self._active_at(funnel, start)
            end = min(through, start + windows_at_once(len(active)) * window_ms)
            self._store.start_closing(funnel, end)
            if progress.closed_through is None and not published:
                # A flush that was under way may have brought an earlier window, and did not know that it is late.
                first = self._store.next_window(funnel, 0)
                if first is not None and first < start:
                    start = first
                    continue
            rows = self._store.read(funnel, start, end)
            if not rows and not active:
                start = self._skip(funnel, start, through)
                continue
            closed = []
            for window in range(start, end, window_ms):
                shown = active.close(funnel, window, window_ms, 0, rows.get(window, {}))
                if shown:
                    closed.append(shown)
            self._active.pop(funnel, None)
            failpoint("closing")
            self._publish(closed)
            failpoint("windows_published")
            newest = closed[-1].window_start if closed else None
            self._store.finish_closing(funnel, end, newest)
            self._active[funnel] = (end, active)
            published += len(closed)
            metrics.WINDOWS.labels(funnel).inc(len(closed))
            start = end
        return published

    def _skip(self, funnel: str, start: int, through: int) -> int:
        """Pass over a time in which nothing is active, to the next window with counts; where to go on."""
        following = self._store.next_window(funnel, start)
        end = through if following is None else min(through, following)
        self._store.start_closing(funnel, end)
        # A second query finds counts that came between the first one and the closing; later counts are late.
        came = self._store.next_window(funnel, start)
        if came is not None and came < end:
            return came
        self._store.finish_closing(funnel, end)
        return end

    def _active_at(self, funnel: str, window: int) -> ActiveSeries:
        """The active series just before a window: as the last round left them, else from the database."""
        kept = self._active.get(funnel)
        if kept and kept[0] == window:
            return kept[1]
        return ActiveSeries(self._horizon_ms, self._store.active_series(funnel, window - self._horizon_ms, window))

    def _revise(self, progress: FunnelProgress) -> int:
        """Publish windows of one funnel again that late events have changed."""
        if progress.closed_through is None or not progress.has_late:
            return 0
        funnel, window_ms = progress.funnel, self._settings.window_ms
        settle_s = self._settings.late_settle_s
        revised = 0
        while not self._stopping.is_set():
            late = self._store.claim_late(funnel, progress.closed_through, settle_s, WINDOWS_AT_ONCE)
            if not late:
                break
            active: ActiveSeries | None = None
            following = 0
            closed = []
            for window in late:
                if active is None or window.window != following:
                    before = window.window - self._horizon_ms
                    active = ActiveSeries(self._horizon_ms, self._store.active_series(funnel, before, window.window))
                following = window.window + window_ms
                rows = self._store.read(funnel, window.window, following).get(window.window, {})
                shown = active.close(funnel, window.window, window_ms, window.revision, rows)
                if shown:
                    closed.append(shown)
            failpoint("revision_claimed")
            self._publish(closed)
            failpoint("revision_published")
            self._store.late_published(funnel, late)
            revised += len(closed)
            metrics.REVISIONS.labels(funnel).inc(len(closed))
        return revised

    def _publish(self, windows: Iterable[ClosedWindow]) -> None:
        topic = self._settings.windows_topic
        self._producer.publish(
            Message(topic, window.funnel, self._encode(record)) for window in windows for record in parts_of(window)
        )
