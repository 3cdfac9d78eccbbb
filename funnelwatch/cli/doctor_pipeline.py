"""Checks the workers by their heartbeats, and the progress of closing and evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from funnelwatch.cli.doctor_services import Finding
from funnelwatch.schemas.freshness import Why, freshness, lasting, stale_after_ms
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.freshness import FreshnessStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from funnelwatch.schemas.freshness import FunnelSeen, WorkerSeen
    from funnelwatch.schemas.settings import Settings

START = "Start one: `funnelwatch worker`."
ADVICE = {
    Why.NOT_CLOSING: "Is a partition's worker frozen, or a partition STOPPED? See the workers' logs and /healthz.",
    Why.BEHIND: "Run more workers, up to one per partition; then look at the database's load.",
    Why.NOT_EVALUATED: "See the workers' logs for the reason; restart the worker that runs the detector.",
}


def check_pipeline(settings: Settings) -> Iterator[Finding]:
    """Workers by their heartbeats, then each funnel by how far its windows are closed and evaluated."""
    database = Database(settings.timescale_url, application="funnelwatch doctor")
    try:
        store = FreshnessStore(database, settings.events_topic)
        if not store.tables():
            yield Finding("workers", "warning", "no worker has run on this database yet", START)
            return
        window_ms = database.query("window_length")
        stale_ms = stale_after_ms(settings, window_ms[0]["window_ms"] if window_ms else None)
        workers, funnels = store.workers(), store.funnels()
    except psycopg.Error as error:
        message = f"not known: {' '.join(str(error).split())}"
        advice = "Update the database's tables by starting a worker of this version; see that this user may read them."
        yield Finding("workers", "unknown", message, advice)
        return
    finally:
        database.close()
    yield from worker_findings(workers, counted=bool(funnels))
    yield from funnel_findings(funnels, workers, stale_ms)


def worker_findings(workers: Sequence[WorkerSeen], *, counted: bool) -> Iterator[Finding]:
    """The findings on heartbeats: each live worker, silent workers, or no worker; pure.

    Args:
        workers: all that were seen lately.
        counted: whether events were ever counted.
    """
    alive = [worker for worker in workers if worker.alive]
    for one in alive:
        name = f"{one.host} ({one.pid})"
        if one.error:
            advice = "See its log and its /healthz."
            yield Finding("worker", "FAILED", f"worker {name} reports: {one.error}", advice)
        else:
            yield Finding(
                "worker", "ok", f"{name}, version {one.version or 'unknown'}: {one.assigned} partition(s) of the events"
            )
    silent = [worker for worker in workers if not worker.alive and not worker.ended]
    if alive:
        for one in silent:
            message = f"worker {one.host} ({one.pid}) has not been heard of for {lasting(one.age_s * 1000)}"
            yield Finding("worker", "warning", message, "It was killed or is frozen; others count its partitions.")
    elif workers:
        last = max(workers, key=lambda one: one.seen_ms)
        how = "ended" if last.ended else "was last heard of"
        message = f"no worker is alive: {last.host} ({last.pid}) {how} {lasting(last.age_s * 1000)} ago"
        advice = START if last.ended else f"{START} If that process still exists, it is frozen: kill it."
        yield Finding("workers", "FAILED", message, advice)
    elif counted:
        yield Finding("workers", "FAILED", "no worker is alive, and none of this version has ever run", START)
    else:
        yield Finding("workers", "warning", "no worker has run yet", START)


def funnel_findings(funnels: Sequence[FunnelSeen], workers: Sequence[WorkerSeen], stale_ms: int) -> Iterator[Finding]:
    """The findings on closing and evaluation of each funnel; pure. Errors of workers are separate findings."""
    for one in funnels:
        # Without workers, which have their own findings: the question here is since when a funnel stands still.
        found = freshness(one, (), stale_ms)
        if found.state == "fresh":
            yield Finding("windows", "ok", f"{one.funnel}: closed and evaluated up to now")
        elif found.why is Why.NO_WINDOW:
            yield Finding("windows", "warning", found.message, "It closes a minute or two after its first event.")
        else:
            advice = ADVICE.get(found.why, "") if any(worker.alive for worker in workers) else START
            yield Finding("windows", "FAILED", f"{one.funnel}: {found.message}", advice)
