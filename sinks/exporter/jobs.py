"""Metric families about TimescaleDB's jobs, by state; unknown has a state of its own."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

import psycopg
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from funnelwatch.sinks.timescale.jobs import count_states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client.metrics_core import Metric

    from funnelwatch.sinks.timescale.jobs import Job

log = logging.getLogger(__name__)

NAME: Final = "funnelwatch_database_jobs"
TEXT: Final = (
    "Jobs of TimescaleDB on the tables, by state; unknown: 1 if they cannot be read. No series without TimescaleDB."
)
UNKNOWN: Final = "unknown"


def states(read: Callable[[], Sequence[Job]]) -> dict[str, int]:
    """State to its number of jobs; only ``unknown`` where they cannot be read, empty without TimescaleDB."""
    try:
        jobs = read()
    except psycopg.Error as error:
        log.warning("the jobs of the database cannot be read: %s", error)
        return {UNKNOWN: 1}
    return {str(state): number for state, number in count_states(jobs).items()} | {UNKNOWN: 0} if jobs else {}


class JobsCollector(Collector):
    """The jobs as of each scrape; from any thread, one at a time.

    Args:
        read: what ``funnelwatch.sinks.timescale.jobs.read_jobs`` gives.
    """

    def __init__(self, read: Callable[[], Sequence[Job]]) -> None:
        self._read = read
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """One family."""
        with self._lock:
            found = states(self._read)
        family = GaugeMetricFamily(NAME, TEXT, labels=["state"])
        for state, number in found.items():
            family.add_metric([state], number)
        return [family]
