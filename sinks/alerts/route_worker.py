"""The route worker: one thread a route, which sends the messages that wait for the route and records the results.

A route worker waits only for its own route. A message that could not be delivered stays in the queue; the worker
pauses, longer each time, and continues with the message that was tried least, so no message blocks another.

Delivery is at least once: a notifier that is killed after the other side took a message, and before it records that,
sends the message again. Each message carries a key by which the other side recognizes it (docs/notify.md). The worker
records every attempt before it begins, bounds its time, and records its result however long the database is away. So a
receiver that is slow, or answers nothing, gets the same message a few times at most (``UNANSWERED_PAUSES_S``).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from funnelwatch.schemas.texts import legible
from funnelwatch.sinks.alerts import metrics
from funnelwatch.sinks.alerts.aside import aside
from funnelwatch.sinks.alerts.delivery import DeliveryResult, Outcome
from funnelwatch.sinks.errors import is_transient
from funnelwatch.sinks.retry import Backoff, StoppedError
from funnelwatch.sinks.servers import DATABASE, servers
from funnelwatch.sinks.timescale.notifications import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.sinks.alerts.receiver import Receiver
    from funnelwatch.sinks.timescale.notifications import RouteStore, Waiting

T = TypeVar("T")

log = logging.getLogger(__name__)

IDLE_S = 1.0
"""Period at which an idle route worker checks its queue without being woken, s."""

KEEP_EVERY_S = 20.0
"""Period of the sign of life that keeps the route's session, s."""

OUTAGE_S = 5.0
"""Longest pause after an error of the database, s: it asks for no longer one."""

STANDBY_S = 5.0
"""Period of attempts to take over a route that another notifier serves, s."""

UNANSWERED_PAUSES_S = (60.0, 900.0, 14_400.0)
"""Pauses before an unanswered message is sent again, s; after the last one, it is given up."""

RETRY_GIVEN_UP_S = 30.0
"""A message that was given up is tried again after this, s, while its alert still fires."""

TICK_S = 1.0
"""How soon a route worker that sends notices that it must stop, s."""

STOP_S = 10.0
"""Longest time for a delivery under way after a stop, s."""

LOG_EVERY_S = 1_800.0
"""Period at which a route that keeps failing for the same reason is logged, s."""


ANSWER_CHARACTERS = 500


ROUTE_BACKOFF = Backoff(first_s=1.0, longest_s=60.0)
"""Pauses after failed deliveries."""


class RouteWorker:
    """The route worker of one route.

    Args:
        route: the receiver.
        store: its queue and log; the route worker closes it.
        now_ms: the wall clock, ms.
        backoff: the pauses after failures.
    """

    def __init__(
        self, route: Receiver, store: RouteStore, now_ms: Callable[[], int], backoff: Backoff | None = None
    ) -> None:
        self.route = route
        self._store = store
        self._now_ms = now_ms
        self._backoff = backoff or ROUTE_BACKOFF
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._failures = 0
        self._remind_at = 0.0
        self._retry_given_up_at = 0.0
        self._unrecorded: Result | None = None
        self._logged = ("", 0.0)
        for outcome in ("sent", "rejected", "given_up", "unanswered"):
            metrics.DECIDED.labels(route.name, outcome)  # Prometheus sees no increase in a counter that begins at 1
        self._thread = threading.Thread(target=self._run, name=f"route_worker {route.name}")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Check the queue now."""
        self._wake.set()

    def stop(self) -> None:
        """Stop after the attempt that is under way."""
        self._stopping.set()
        self._wake.set()

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                try:
                    pause_s = self.step()
                    servers.done(f"{DATABASE}: route {self.route.name}")
                except StoppedError as error:
                    log.warning("%s; stopping without it: the message may come twice", error)
                    return
                except Exception as error:
                    if not is_transient(error):
                        # A bug in one route must neither stop the others nor go unnoticed.
                        log.exception("route %s: unexpected", self.route.name)
                    else:
                        servers.failed(f"{DATABASE}: route {self.route.name}", error)
                    pause_s = min(self._failed(None), OUTAGE_S)
                if pause_s > IDLE_S:
                    self._pause(pause_s)
                elif pause_s:
                    self._wake.wait(pause_s)
        finally:
            metrics.OWNS.labels(self.route.name).set(0)
            self.close()

    def close(self) -> None:
        """Release the route; a started route worker does so when it ends."""
        self._store.close()

    def _pause(self, pause_s: float) -> None:
        """Pause without losing the route to the database's limit for idle sessions."""
        until = time.monotonic() + pause_s
        while (left := until - time.monotonic()) > 0 and not self._stopping.wait(min(left, KEEP_EVERY_S)):
            self._keep()

    def _keep(self) -> None:
        """Keep the route's session alive, if the database answers; a delivery under way continues either way."""
        try:
            self._store.keep()
        except Exception as error:
            if not is_transient(error):
                log.exception("route %s: unexpected", self.route.name)

    def _while_kept(self, send: Callable[[], T]) -> T:
        """Deliver while keeping the route, so that no other notifier sends the same message.

        Raises:
            StoppedError: the worker stops while the receiver is slow: the attempt has no result.
        """
        kept_at = time.monotonic()
        stopped_at: float | None = None

        def tick() -> None:
            nonlocal kept_at, stopped_at
            now = time.monotonic()
            if now - kept_at >= KEEP_EVERY_S:
                self._keep()
                kept_at = now
            if self._stopping.is_set():
                stopped_at = now if stopped_at is None else stopped_at
                if now - stopped_at >= STOP_S:
                    raise StoppedError(f"route {self.route.name}: a delivery is under way")

        return aside(send, f"send {self.route.name}", min(KEEP_EVERY_S, TICK_S), tick)

    def step(self) -> float:
        """Send one message, or a reminder that is due; returns the pause before the next step, s."""
        if self._unrecorded is not None:  # the result counts, whichever notifier has the route now
            self._store.note(self._unrecorded)
            self._unrecorded = None
        held = self._store.hold()
        metrics.OWNS.labels(self.route.name).set(held)
        if not held:
            return STANDBY_S
        waiting = self._store.next(only_resolved=self.route.wants_only_resolved)
        if waiting is not None:
            return self._send(waiting)
        if self.route.resend_s is not None and time.monotonic() >= self._remind_at:
            return self._remind(self.route.resend_s)
        if time.monotonic() >= self._retry_given_up_at:
            self._retry_given_up_at = time.monotonic() + RETRY_GIVEN_UP_S / 6
            if retried := self._store.retry_given_up(RETRY_GIVEN_UP_S):
                log.warning("route %s: retries %d alerts that still fire", self.route.name, len(retried))
                return 0.0
        return IDLE_S

    def _send(self, waiting: Waiting) -> float:
        name, alert = self.route.name, waiting.alert
        label = f"route {name}: {alert['alert_id']} {alert['sequence']} ({alert['state']} {alert['rule']})"
        label = legible(label, 300)
        attempt = self._store.begin(alert)
        if attempt is None:
            return 0.0
        result = self._deliver(waiting, label)
        text = legible(result.text, ANSWER_CHARACTERS)
        unanswered = result.outcome is Outcome.UNANSWERED
        outcome, pause_s = self._decide(waiting, result)
        route_pause_s = self._report(result, outcome, pause_s, f"{label}:", waiting.age_s)
        self._unrecorded = Result(alert, attempt, outcome, text, unanswered, pause_s)
        self._store.note(self._unrecorded)
        self._unrecorded = None
        return route_pause_s

    def _report(self, result: DeliveryResult, outcome: str | None, pause_s: float, label: str, age_s: float) -> float:
        """Count and log the result of an attempt; returns the pause of the route, s."""
        text = legible(result.text, ANSWER_CHARACTERS)
        if outcome is not None:
            metrics.DECIDED.labels(self.route.name, outcome).inc()
        if result.outcome is Outcome.SENT:
            self._failures, self._logged = 0, ("", 0.0)
            metrics.LAST.labels(self.route.name).set(self._now_ms() / 1000)
            log.info("%s sent: %s", label, text)
            return 0.0
        if result.outcome is Outcome.REJECTED:
            self._failures = 0
            log.error("%s rejected for good: %s", label, text)
            return 0.0
        route_pause_s = self._failed(result)
        if outcome is not None:
            log.error("%s %s after %.0f s: %s", label, outcome.replace("_", " "), age_s, text)
        elif self._is_news(text):
            log.warning("%s failed, retried in %.1f s or later: %s", label, max(pause_s, route_pause_s), text)
        return route_pause_s

    def _deliver(self, waiting: Waiting, label: str) -> DeliveryResult:
        try:
            return self._while_kept(lambda: self.route.deliver(waiting.alert, waiting.previous, self._now_ms()))
        except StoppedError:
            raise
        except (MemoryError, OSError, RuntimeError) as error:  # this machine lacks a resource
            log.exception("%s: unexpected", label)
            return DeliveryResult(Outcome.LATER, f"{type(error).__name__}: {error}")
        except Exception as error:  # a bug: the same message would fail again, and other messages must go on
            log.exception("%s: unexpected", label)
            return DeliveryResult(Outcome.REJECTED, f"{type(error).__name__}: {error}")

    def _decide(self, waiting: Waiting, result: DeliveryResult) -> tuple[str | None, float]:
        """The final outcome of a message, None while it is retried; and the pause before the retry, s."""
        if result.outcome in {Outcome.SENT, Outcome.REJECTED}:
            return str(result.outcome), 0.0
        if result.outcome is Outcome.UNANSWERED and not self.route.is_repeatable:
            if waiting.unanswered >= len(UNANSWERED_PAUSES_S) or waiting.age_s >= self.route.give_up_after:
                return "unanswered", 0.0
            return None, UNANSWERED_PAUSES_S[waiting.unanswered]
        return (None if waiting.age_s < self.route.give_up_after else "given_up"), 0.0

    def _is_news(self, text: str) -> bool:
        """Whether to log a failure: it differs from the last one, or that is a while ago."""
        before, at = self._logged
        if text == before and time.monotonic() - at < LOG_EVERY_S:
            return False
        self._logged = (text, time.monotonic())
        return True

    def _remind(self, every_s: float) -> float:
        firing = self._store.firing()
        result = self._while_kept(lambda: self.route.remind(firing, self._now_ms()))
        if result.outcome is not Outcome.SENT:
            pause_s = min(self._failed(result), every_s)
            if self._is_news(result.text):
                log.warning("route %s: reminder of %d alerts: %s", self.route.name, len(firing), legible(result.text))
            return pause_s
        self._failures = 0
        self._remind_at = time.monotonic() + every_s
        return 0.0

    def _failed(self, result: DeliveryResult | None) -> float:
        self._failures += 1
        metrics.FAILED.labels(self.route.name).inc()
        asked_s = None if result is None else result.retry_after_s
        return self._backoff.pause(self._failures, random.random(), asked_s)  # noqa: S311 - jitter
