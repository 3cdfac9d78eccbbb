"""One route worker a route: a thread that takes what waits for the route, sends it and notes what came of it.

A route worker waits only for its own route. A message that an attempt could not deliver stays in the queue; the worker
pauses, longer each time, and goes on with the message tried least, so one bad message holds no other up.

Delivery is at least once: a notifier that is killed after the other side took a message and before that is noted sends
it again. What is sent carries a key by which the other side knows it again (docs/notify.md). Every attempt is noted
before it begins, has one bound in time, and its result is noted however long the database is away meanwhile: a receiver
that is slow, or takes messages without an answer, gets the same one a few times at most (``UNANSWERED_PAUSES_S``).
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
"""How often a route worker looks when nobody has told it of something new, s."""

KEEP_EVERY_S = 20.0
"""How often a route worker that pauses or sends tells the database that it still has its route, s."""

OUTAGE_S = 5.0
"""The database is tried again after at most this, s: it is ours, and nobody asked for retry_policy."""

STANDBY_S = 5.0
"""How often a route worker whose route another notifier has tries to take it, s."""

UNANSWERED_PAUSES_S = (60.0, 900.0, 14_400.0)
"""A message of which all was sent and that was not answered is sent again after these, s, and then no more."""

TRY_AGAIN_S = 30.0
"""What was given up is tried again after this, s, while its alert still fires."""

TICK_S = 1.0
"""How often a route worker that sends looks whether it is to stop, s."""

STOP_S = 10.0
"""A delivery that is under way may take this long after the route worker is to stop, s."""

LOG_EVERY_S = 1_800.0
"""A route that goes on failing for the same reason is logged this often, s."""


ANSWER_CHARACTERS = 500


ROUTE_BACKOFF = Backoff(first_s=1.0, longest_s=60.0)
"""Pauses after failed deliveries."""


class RouteWorker:
    """The route worker of one route.

    Args:
        route: where to.
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
        self._try_again_at = 0.0
        self._unnoted: Result | None = None
        self._logged = ("", 0.0)
        for outcome in ("sent", "rejected", "given_up", "unanswered"):
            metrics.DECIDED.labels(route.name, outcome)  # a counter that begins at 1 has not risen, to Prometheus
        self._thread = threading.Thread(target=self._run, name=f"route_worker {route.name}")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Something new is queued."""
        self._wake.set()

    def stop(self) -> None:
        """End after the attempt that is under way."""
        self._stopping.set()
        self._wake.set()

    def join(self) -> None:
        """Wait until it has ended."""
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
                    log.warning("%s, and left: the message may come twice", error)
                    return
                except Exception as error:
                    if not is_transient(error):
                        # A fault of ours in one route worker must not take the others along, nor go unnoticed.
                        log.exception("route %s: unexpected", self.route.name)
                    else:
                        servers.failed(f"{DATABASE}: route {self.route.name}", error)
                    pause_s = min(self._failed(None), OUTAGE_S)
                if pause_s > IDLE_S:
                    self._pause(pause_s)
                elif pause_s:
                    self._wake.wait(pause_s)
        finally:
            metrics.HOLDS.labels(self.route.name).set(0)
            self.close()

    def close(self) -> None:
        """Let the route go; a route worker that was started does so when it ends."""
        self._store.close()

    def _pause(self, pause_s: float) -> None:
        """Wait, without losing the route to the database's limit for idle sessions."""
        until = time.monotonic() + pause_s
        while (left := until - time.monotonic()) > 0 and not self._stopping.wait(min(left, KEEP_EVERY_S)):
            self._keep()

    def _keep(self) -> None:
        """Tell the database, if it answers, that this worker lives; a delivery under way goes on either way."""
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
        """Send one message, or a reminder that is due; how long to pause then, s."""
        if self._unnoted is not None:  # it counts, whoever has the route by now
            self._store.note(self._unnoted)
            self._unnoted = None
        held = self._store.hold()
        metrics.HOLDS.labels(self.route.name).set(held)
        if not held:
            return STANDBY_S
        waiting = self._store.next(resolved_alone=self.route.tells_resolved_alone)
        if waiting is not None:
            return self._send(waiting)
        if self.route.resend_s is not None and time.monotonic() >= self._remind_at:
            return self._remind(self.route.resend_s)
        if time.monotonic() >= self._try_again_at:
            self._try_again_at = time.monotonic() + TRY_AGAIN_S / 6
            if again := self._store.try_given_up_again(TRY_AGAIN_S):
                log.warning("route %s: tries %d alerts again that still fire", self.route.name, len(again))
                return 0.0
        return IDLE_S

    def _send(self, waiting: Waiting) -> float:
        name, alert = self.route.name, waiting.alert
        said = f"route {name}: {alert['alert_id']} {alert['sequence']} ({alert['state']} {alert['rule']})"
        said = legible(said, 300)
        attempt = self._store.begin(alert)
        if attempt is None:
            return 0.0
        answer = self._deliver(waiting, said)
        text = legible(answer.text, ANSWER_CHARACTERS)
        unanswered = answer.outcome is Outcome.UNANSWERED
        outcome, pause_s = self._decide(waiting, answer)
        route_pause_s = self._tell(answer, outcome, pause_s, f"{said}:", waiting.age_s)
        self._unnoted = Result(alert, attempt, outcome, text, unanswered, pause_s)
        self._store.note(self._unnoted)
        self._unnoted = None
        return route_pause_s

    def _tell(self, answer: DeliveryResult, outcome: str | None, pause_s: float, said: str, age_s: float) -> float:
        """Count and log what came of an attempt; how long to pause then, s."""
        text = legible(answer.text, ANSWER_CHARACTERS)
        if outcome is not None:
            metrics.DECIDED.labels(self.route.name, outcome).inc()
        if answer.outcome is Outcome.SENT:
            self._failures, self._logged = 0, ("", 0.0)
            metrics.LAST.labels(self.route.name).set(self._now_ms() / 1000)
            log.info("%s sent: %s", said, text)
            return 0.0
        if answer.outcome is Outcome.REJECTED:
            self._failures = 0
            log.error("%s rejected for good: %s", said, text)
            return 0.0
        route_pause_s = self._failed(answer)
        if outcome is not None:
            log.error("%s %s after %.0f s: %s", said, outcome.replace("_", " "), age_s, text)
        elif self._is_news(text):
            log.warning("%s not now, again in %.1f s or later: %s", said, max(pause_s, route_pause_s), text)
        return route_pause_s

    def _deliver(self, waiting: Waiting, said: str) -> DeliveryResult:
        try:
            return self._while_kept(lambda: self.route.deliver(waiting.alert, waiting.previous, self._now_ms()))
        except StoppedError:
            raise
        except (MemoryError, OSError, RuntimeError) as error:  # this machine is short of something
            log.exception("%s: unexpected", said)
            return DeliveryResult(Outcome.LATER, f"{type(error).__name__}: {error}")
        except Exception as error:  # a bug: the same message would fail again, and others must go on
            log.exception("%s: unexpected", said)
            return DeliveryResult(Outcome.REJECTED, f"{type(error).__name__}: {error}")

    def _decide(self, waiting: Waiting, answer: DeliveryResult) -> tuple[str | None, float]:
        """What a message is done with, None while it is tried again; and the pause until it is, s."""
        if answer.outcome in {Outcome.SENT, Outcome.REJECTED}:
            return str(answer.outcome), 0.0
        if answer.outcome is Outcome.UNANSWERED and not self.route.is_repeatable:
            if waiting.unanswered >= len(UNANSWERED_PAUSES_S) or waiting.age_s >= self.route.give_up_after:
                return "unanswered", 0.0
            return None, UNANSWERED_PAUSES_S[waiting.unanswered]
        return (None if waiting.age_s < self.route.give_up_after else "given_up"), 0.0

    def _is_news(self, text: str) -> bool:
        """Whether a failure is to be logged: another than before, or the same after a while."""
        before, at = self._logged
        if text == before and time.monotonic() - at < LOG_EVERY_S:
            return False
        self._logged = (text, time.monotonic())
        return True

    def _remind(self, every_s: float) -> float:
        firing = self._store.firing()
        answer = self._while_kept(lambda: self.route.remind(firing, self._now_ms()))
        if answer.outcome is not Outcome.SENT:
            pause_s = min(self._failed(answer), every_s)
            if self._is_news(answer.text):
                log.warning("route %s: reminder of %d alerts: %s", self.route.name, len(firing), legible(answer.text))
            return pause_s
        self._failures = 0
        self._remind_at = time.monotonic() + every_s
        return 0.0

    def _failed(self, answer: DeliveryResult | None) -> float:
        self._failures += 1
        metrics.FAILED.labels(self.route.name).inc()
        asked_s = None if answer is None else answer.retry_after_s
        return self._backoff.pause(self._failures, random.random(), asked_s)  # noqa: S311 - jitter
