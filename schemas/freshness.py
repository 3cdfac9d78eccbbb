"""Whether figures are current; every surface uses the same words. Pure.

``fresh``: windows close and are evaluated, and the workers report no error. ``stale``: figures are old, or windows are
not evaluated. ``unknown``: the state cannot be determined. Only ``fresh`` may be shown as healthy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from funnelwatch.schemas.times import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.schemas.settings import Settings

ALIVE_S = 30.0
"""A worker whose last heartbeat is older is dead or frozen; it beats every 5 s."""
UNEVALUATED_MS = 60_000
"""The time within which a closed window is evaluated, ms."""
SLACK_MS = 30_000

State = Literal["fresh", "stale", "unknown"]


class Why(StrEnum):
    """The reason of a state, as one word for programs."""

    FRESH = "fresh"
    NO_WORKER = "no_worker"
    NOT_CLOSING = "not_closing"
    BEHIND = "behind"
    NOT_EVALUATED = "not_evaluated"
    WORKER_ERROR = "worker_error"
    NO_WINDOW = "no_window"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker by its last heartbeat. ``error`` is the problem that it reports; None: none."""

    host: str
    pid: int
    version: str
    assigned: int
    error: str | None
    ended: bool
    seen_ms: int
    age_s: float

    @property
    def alive(self) -> bool:
        """Whether its heartbeat is recent."""
        return not self.ended and self.age_s <= ALIVE_S


@dataclass(frozen=True, slots=True)
class FunnelSeen:
    """How far a funnel's windows are closed and evaluated; times in ms, None: never.

    ``unevaluated_since_ms`` is the time since which a window waits to be evaluated; None: none waits.
    """

    funnel: str
    now_ms: int
    closed_through_ms: int | None = None
    closed_at_ms: int | None = None
    counted_since_ms: int | None = None
    unevaluated_since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Freshness:
    """A state with its reason, its begin (ms; None: unknown), and a sentence for people."""

    state: State
    why: Why
    since_ms: int | None
    message: str

    def as_object(self) -> dict[str, object]:
        """For JSON."""
        since = None if self.since_ms is None else datetime.fromtimestamp(self.since_ms / 1000, UTC)
        text = None if since is None else since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"state": self.state, "reason": str(self.why), "since": text, "message": self.message}


def stale_after_ms(settings: Settings, window_ms: int | None = None) -> int:
    """The age from which the newest closed window is too old, ms.

    A window closes one window length, the allowed disorder and an idle timeout after its start; the rest is slack.
    """
    window = window_ms or settings.window_ms
    return 2 * window + int((settings.allowed_disorder_s + settings.idle_timeout_s) * 1000) + SLACK_MS


def freshness(funnel: FunnelSeen, workers: Sequence[WorkerSeen], stale_ms: int) -> Freshness:
    """Whether the figures of a funnel are current.

    Args:
        funnel: its progress.
        workers: all workers that ever sent a heartbeat.
        stale_ms: ``stale_after_ms``.
    """
    errors = _said_by(workers)
    found = _no_worker(funnel, workers) or _not_closing(funnel, stale_ms) or _not_evaluated(funnel)
    said = _first_upper("; ".join(errors))
    if found is not None and found.why is not Why.NO_WORKER and errors:
        return replace(found, message=f"{found.message}. {said}")
    if found is not None:
        return found
    if errors:
        return Freshness("unknown", Why.WORKER_ERROR, None, said)
    through = funnel.closed_through_ms or 0
    return Freshness("fresh", Why.FRESH, through, f"Windows are complete up to {clock(through, funnel.now_ms)}")


def by_workers(workers: Sequence[WorkerSeen]) -> Freshness:
    """The freshness of counters and timers, which have no closed windows: by live workers."""
    errors = _said_by(workers)
    if errors:
        return Freshness("unknown", Why.WORKER_ERROR, None, _first_upper("; ".join(errors)))
    return Freshness("fresh", Why.FRESH, None, "Workers are alive")


def _said_by(workers: Sequence[WorkerSeen]) -> list[str]:
    """The errors that live workers report, without full stops, since the caller continues the sentence."""
    said = ((one, one.error.rstrip(".")) for one in workers if one.alive and one.error)
    return [f"worker {one.host} ({one.pid}) says: {error}" for one, error in said]


def _no_worker(funnel: FunnelSeen, workers: Sequence[WorkerSeen]) -> Freshness | None:
    if not workers or any(worker.alive for worker in workers):
        return None
    now, last = funnel.now_ms, max(workers, key=lambda one: one.seen_ms)
    seen = f"{clock(last.seen_ms, now)} ({lasting(now - last.seen_ms)} ago)"
    what = f"the last one ended at {seen}" if last.ended else f"worker {last.host} ({last.pid}) was last seen at {seen}"
    closed = funnel.closed_through_ms
    end = "" if closed is None else f"; these figures end at {clock(closed, now)}"
    return Freshness("stale", Why.NO_WORKER, last.seen_ms, f"No worker is alive: {what}{end}")


def _not_closing(funnel: FunnelSeen, stale_ms: int) -> Freshness | None:
    now, closed = funnel.now_ms, funnel.closed_through_ms
    counted = funnel.counted_since_ms
    if closed is None and counted is not None and now - counted > stale_ms:
        message = f"No window has ever closed, though events are counted since {clock(counted, now)}"
        return Freshness("stale", Why.NOT_CLOSING, counted, message)
    if closed is None:
        return Freshness("unknown", Why.NO_WINDOW, None, f"No window of {funnel.funnel} is complete yet")
    if now - closed <= stale_ms:
        return None
    closed_at = closed if funnel.closed_at_ms is None else funnel.closed_at_ms
    if now - closed_at <= stale_ms:
        message = (
            f"Windows are complete only up to {clock(closed, now)} ({lasting(now - closed)} ago), as workers are "
            "behind: these figures are old"
        )
        return Freshness("stale", Why.BEHIND, closed, message)
    end = "" if closed == closed_at else f", they end at {clock(closed, now)}"
    message = f"No window has closed since {clock(closed_at, now)} ({lasting(now - closed_at)}): these figures are old"
    return Freshness("stale", Why.NOT_CLOSING, closed_at, message + end)


def _not_evaluated(funnel: FunnelSeen) -> Freshness | None:
    now, since = funnel.now_ms, funnel.unevaluated_since_ms
    if since is None or now - since <= UNEVALUATED_MS:
        return None
    message = f"No window has been evaluated since {clock(since, now)} ({lasting(now - since)}): no alert can fire"
    return Freshness("stale", Why.NOT_EVALUATED, since, message)


def unreachable(server: str, error: str, since_ms: int | None, now_ms: int) -> Freshness:
    """The freshness while a server does not answer."""
    since = "" if since_ms is None else f" since {clock(since_ms, now_ms)} ({lasting(now_ms - since_ms)})"
    message = f"{server} has not answered{since}: nobody knows whether these figures are current ({error.rstrip('.')})"
    return Freshness("unknown", Why.UNREACHABLE, since_ms, message)


def worst(found: Sequence[Freshness]) -> Freshness | None:
    """The worst: stale before unknown before fresh."""
    order = {"stale": 0, "unknown": 1, "fresh": 2}
    return min(found, key=lambda one: order[one.state], default=None)


def aged(funnel: FunnelSeen, workers: Sequence[WorkerSeen], by_ms: int) -> tuple[FunnelSeen, list[WorkerSeen]]:
    """The same observation, later by some ms: an observation from before a database outage ages during it."""
    return (
        replace(funnel, now_ms=funnel.now_ms + by_ms),
        [replace(worker, age_s=worker.age_s + by_ms / 1000) for worker in workers],
    )


def clock(ms: int, now_ms: int) -> str:
    """A time of day, UTC, with its date where that is another day's."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.strftime("%H:%M:%S" if ms // DAY_MS == now_ms // DAY_MS else "%Y-%m-%d %H:%M:%S")


def lasting(ms: float) -> str:
    """A span of time in its two largest units."""
    seconds = max(0, round(ms / 1000))
    parts = []
    for name, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= length:
            parts.append(f"{seconds // length} {name}")
            seconds %= length
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]
