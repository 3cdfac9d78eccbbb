"""The jobs of TimescaleDB that compress: whether each does its work.

A job that fails or never runs is silent: nothing is compressed. Where that cannot
be read, it is unknown, which is not the same as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from funnelwatch.sinks.timescale.database import run
from funnelwatch.sinks.timescale.migrations import has_timescale

if TYPE_CHECKING:
    from collections.abc import Iterable

    from funnelwatch.sinks.timescale.database import Database

COMPRESSION: Final = "policy_compression"
"""The extension's procedure."""

RELATIONS: Final = ("window_counts", "rollup_5m", "rollup_1h", "metric_counts")
"""The tables that are compressed."""

MISSED_RUNS: Final = 3
GRACE_S: Final = 900.0
"""A job is overdue when it has not succeeded for three of its intervals and this, s."""


ENOUGH_BACKGROUND: Final = len(RELATIONS) + 2
"""Background processes of the extension: a launcher and a scheduler for this database, and the jobs."""


class JobState(StrEnum):
    """How a job does."""

    OK = "ok"
    MISSING = "missing"
    OFF = "off"
    FAILING = "failing"
    NEVER_RAN = "never_ran"
    OVERDUE = "overdue"


@dataclass(frozen=True, slots=True)
class Job:
    """A job of the database; times in s.

    Attributes:
        kind: the extension's procedure.
        relation: the table that it works on.
        job_id: None: there is no such job, though there should be.
        scheduled: whether it is to run.
        every_s: how often.
        ran: whether it was ever started.
        failed: whether its newest run failed.
        running: whether it runs now.
        succeeded_ago_s: how long ago it succeeded; None: never.
        known_s: for how long it should have been run at least.
        error: the message of its newest failure; None: no failure is known.
    """

    kind: str
    relation: str
    job_id: int | None = None
    scheduled: bool = True
    every_s: float = 300.0
    ran: bool = False
    failed: bool = False
    running: bool = False
    succeeded_ago_s: float | None = None
    known_s: float = 0.0
    error: str | None = None

    @property
    def name(self) -> str:
        """Such as "compression of window_counts"."""
        return f"{self.kind.removeprefix('policy_')} of {self.relation}"

    @property
    def state(self) -> JobState:
        """How it does."""
        if self.job_id is None:
            return JobState.MISSING
        if not self.scheduled:
            return JobState.OFF
        if self.failed:
            return JobState.FAILING
        waiting_s = self.known_s if self.succeeded_ago_s is None else self.succeeded_ago_s
        if self.running or waiting_s <= MISSED_RUNS * self.every_s + GRACE_S:
            return JobState.OK
        return JobState.OVERDUE if self.ran else JobState.NEVER_RAN


def read_jobs(database: Database) -> list[Job]:
    """Every job on our tables, and those that are missing; none where the tables are made without the extension.

    Raises:
        psycopg.Error: they cannot be read, so that nothing is known of them.
    """
    with database.transaction() as cursor:
        if not has_timescale(cursor):
            return []
        rows = run(cursor, "database_jobs", {"relations": list(RELATIONS)})
    jobs = [Job(kind=row.pop("proc_name"), **row) for row in rows]
    return with_missing(jobs)


def with_missing(jobs: Iterable[Job]) -> list[Job]:
    """The jobs, and for each table that nothing compresses one that is missing."""
    found = list(jobs)
    compressed = {job.relation for job in found if job.kind == COMPRESSION}
    return [*found, *(Job(COMPRESSION, table) for table in RELATIONS if table not in compressed)]


def count_states(jobs: Iterable[Job]) -> dict[JobState, int]:
    """How many jobs do how, every state included."""
    states = [job.state for job in jobs]
    return {state: states.count(state) for state in JobState}


@dataclass(frozen=True, slots=True)
class WorkerProcesses:
    """What the server's settings allow.

    Attributes:
        processes: ``max_worker_processes``.
        background: ``timescaledb.max_background_workers``; None: the extension's loader is not there.
        parallel: ``max_parallel_workers``.
    """

    processes: int
    background: int | None
    parallel: int

    @property
    def enough_processes(self) -> int:
        """How many the server needs: those of the extension, three of its own, and those for parallel queries."""
        return ENOUGH_BACKGROUND + self.parallel + 3


def read_worker_processes(database: Database) -> WorkerProcesses:
    """The server's settings.

    Raises:
        psycopg.Error: they cannot be read.
    """
    return WorkerProcesses(**database.query("worker_processes")[0])
