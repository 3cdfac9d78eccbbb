"""How a job of TimescaleDB does, and what `doctor` and the exporter make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from funnelwatch.cli.doctor_jobs import job_findings, process_findings
from funnelwatch.sinks.exporter.collector import JobsCollector
from funnelwatch.sinks.timescale.jobs import (
    COMPRESSION,
    RELATIONS,
    Job,
    JobState,
    WorkerProcesses,
    count_states,
    with_missing,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

HOUR_S = 3600.0
WELL = [
    Job(COMPRESSION, table, 1000 + number, ran=True, succeeded_ago_s=60.0) for number, table in enumerate(RELATIONS)
]


def job(**changes: object) -> Job:
    """The compression of window_counts, every five minutes, that has never run and is just made."""
    return Job(**({"kind": COMPRESSION, "relation": "window_counts", "job_id": 1000} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, JobState.OK),
        ({"known_s": 3 * 300.0 + 900.0}, JobState.OK),
        ({"known_s": 3 * 300.0 + 901.0}, JobState.NEVER_RAN),
        ({"known_s": 99 * HOUR_S, "every_s": 100 * HOUR_S}, JobState.OK),
        ({"known_s": 99 * HOUR_S, "ran": True}, JobState.OVERDUE),
        ({"known_s": 99 * HOUR_S, "ran": True, "running": True}, JobState.OK),
        ({"known_s": 99 * HOUR_S, "ran": True, "succeeded_ago_s": 1_800.0}, JobState.OK),
        ({"known_s": 99 * HOUR_S, "ran": True, "succeeded_ago_s": 1_801.0}, JobState.OVERDUE),
        ({"succeeded_ago_s": 5.0, "failed": True}, JobState.FAILING),
        ({"ran": True, "failed": True, "running": True}, JobState.FAILING),
        ({"scheduled": False, "failed": True}, JobState.OFF),
        ({"job_id": None}, JobState.MISSING),
    ],
)
def test_a_job_is_well_only_if_it_succeeds_in_time(changes: dict[str, object], state: JobState) -> None:
    """Three intervals and a quarter of an hour are granted, from when it was made on where it never ran."""
    assert job(**changes).state is state


def test_a_table_that_nothing_compresses_is_missed() -> None:
    """A job that is not there cannot fail."""
    jobs = with_missing(one for one in WELL if one.relation != "rollup_1h")
    assert [one.name for one in jobs if one.state is JobState.MISSING] == ["compression of rollup_1h"]
    assert count_states(jobs) == dict.fromkeys(JobState, 0) | {JobState.OK: 3, JobState.MISSING: 1}


def told(jobs: Sequence[Job]) -> list[tuple[str, str]]:
    """Level and message of the findings, each of which says what to do unless all is well."""
    found = list(job_findings(jobs))
    assert all(bool(one.advice) is (one.level != "ok") for one in found)
    return [(one.level, one.message) for one in found]


def test_doctor_tells_of_each_job_that_is_not_well() -> None:
    """With its number, what it does, and the error of the database."""
    failing = job(ran=True, failed=True, succeeded_ago_s=7_200.0, error="out of memory")
    off = Job(COMPRESSION, "rollup_5m", 1003, scheduled=False)
    late = Job(COMPRESSION, "rollup_1h", 1050, every_s=86_400.0, ran=True, succeeded_ago_s=5 * 86_400.0)
    assert told([*WELL[1:], failing, off, late]) == [
        (
            "FAILED",
            "compression of window_counts: the job 1000 fails: out of memory; it succeeded 2 h ago",
        ),
        ("warning", "compression of rollup_5m: somebody has switched the job 1003 off"),
        ("FAILED", "compression of rollup_1h: the job 1050 should run every 1 d, and succeeded 5 d ago"),
    ]
    assert told(WELL) == [("ok", "the 4 jobs of TimescaleDB do their work")]


def test_doctor_tells_once_that_no_job_runs_at_all() -> None:
    """Without background processes every job waits; the cause is one."""
    never = [Job(COMPRESSION, table, 1000, known_s=7_200.0) for table in RELATIONS]
    [(level, message)] = told(never)
    assert (level, message) == ("FAILED", "none of the 4 jobs of TimescaleDB runs, for 2 h")


@pytest.mark.parametrize(
    ("allowed", "found"),
    [
        (WorkerProcesses(17, 16, 8), []),
        (WorkerProcesses(8, 16, 8), ["max_worker_processes is 8, 17 are needed"]),
        (
            WorkerProcesses(8, 4, 0),
            ["timescaledb.max_background_workers is 4, 6 are needed; max_worker_processes is 8, 9 are needed"],
        ),
        (
            WorkerProcesses(99, None, 0),
            ["timescaledb.max_background_workers is not set: the extension's loader is not there, and no job runs"],
        ),
    ],
)
def test_doctor_computes_how_many_processes_the_jobs_need(allowed: WorkerProcesses, found: list[str]) -> None:
    """A launcher, a scheduler and four jobs; those of parallel queries and three of the server beside them."""
    assert [one.message for one in process_findings(allowed)] == found


def scraped(collector: JobsCollector) -> dict[str, str]:
    """State to number, as Prometheus reads it."""
    registry = CollectorRegistry()
    registry.register(collector)
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    return {line.split('"')[1]: line.rpartition(" ")[2] for line in lines}


def test_the_exporter_counts_jobs_by_state_and_never_takes_unknown_for_well() -> None:
    """Every state has a sample, so that one that comes is a rise; without TimescaleDB there is none."""
    expected = {"ok": "3.0", "missing": "0.0", "off": "0.0", "failing": "1.0", "never_ran": "0.0", "overdue": "0.0"}
    assert scraped(JobsCollector(lambda: [*WELL[1:], job(failed=True)])) == expected | {"unknown": "0.0"}
    assert scraped(JobsCollector(list)) == {}

    def hidden() -> list[Job]:
        raise psycopg.errors.InsufficientPrivilege("permission denied for view job_stats")

    assert scraped(JobsCollector(hidden)) == {"unknown": "1.0"}
