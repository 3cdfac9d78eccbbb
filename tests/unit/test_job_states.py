"""How a job of TimescaleDB does, and what `doctor` and the exporter make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from funnelwatch.cli.doctor_jobs import job_findings, process_findings, version_findings
from funnelwatch.sinks.exporter.collector import JobsCollector
from funnelwatch.sinks.timescale.jobs import (
    REFRESH,
    ROLLUPS,
    Job,
    JobState,
    WorkerProcesses,
    count_states,
    with_missing,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

HOUR_S = 3600.0
WELL = [Job(REFRESH, rollup, 1000 + number, ran=True, succeeded_ago_s=60.0) for number, rollup in enumerate(ROLLUPS)]


def job(**changes: object) -> Job:
    """The refresh of counts_5m, every five minutes, that has never run and is just made."""
    return Job(**({"kind": REFRESH, "relation": "counts_5m", "job_id": 1000} | changes))  # type: ignore[arg-type]


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


def test_a_rollup_without_a_refresh_is_missed() -> None:
    """A job that is not there cannot fail."""
    jobs = with_missing(one for one in WELL if one.relation != "durations_1h")
    assert [one.name for one in jobs if one.state is JobState.MISSING] == ["refresh of durations_1h"]
    assert count_states(jobs) == dict.fromkeys(JobState, 0) | {JobState.OK: 5, JobState.MISSING: 1}


def told(jobs: Sequence[Job]) -> list[tuple[str, str]]:
    """Level and message of the findings, each of which says what to do unless all is well."""
    found = list(job_findings(jobs))
    assert all(bool(one.advice) is (one.level != "ok") for one in found)
    return [(one.level, one.message) for one in found]


def test_doctor_tells_of_each_job_that_is_not_well() -> None:
    """With its number, what it does, and the error of the database."""
    failing = job(ran=True, failed=True, succeeded_ago_s=7_200.0, error="tuple decompression limit exceeded")
    off = Job("policy_compression", "window_counts", 1003, scheduled=False)
    late = Job("policy_retention", "counts_1h", 1050, every_s=86_400.0, ran=True, succeeded_ago_s=5 * 86_400.0)
    assert told([*WELL[1:], failing, off, late]) == [
        (
            "FAILED",
            "refresh of counts_5m: the job 1000 fails: tuple decompression limit exceeded; it succeeded 2 h ago",
        ),
        ("warning", "compression of window_counts: somebody has switched the job 1003 off"),
        ("FAILED", "retention of counts_1h: the job 1050 should run every 1 d, and succeeded 5 d ago"),
    ]
    assert told(WELL) == [("ok", "the 6 jobs of TimescaleDB do their work")]


def test_doctor_tells_once_that_no_job_runs_at_all() -> None:
    """Without background processes every job waits; the cause is one."""
    never = [Job(REFRESH, rollup, 1000, known_s=7_200.0) for rollup in ROLLUPS]
    [(level, message)] = told([*never, Job("policy_compression", "window_counts", 1003, every_s=43_200.0)])
    assert (level, message) == ("FAILED", "none of the 7 jobs of TimescaleDB runs, for 2 h")


@pytest.mark.parametrize(
    ("allowed", "found"),
    [
        (WorkerProcesses(21, 16, 8), []),
        (WorkerProcesses(8, 16, 8), ["max_worker_processes is 8, 21 are needed"]),
        (
            WorkerProcesses(8, 4, 0),
            ["timescaledb.max_background_workers is 4, 10 are needed; max_worker_processes is 8, 13 are needed"],
        ),
        (
            WorkerProcesses(99, None, 0),
            ["timescaledb.max_background_workers is not set: the extension's loader is not there, and no job runs"],
        ),
    ],
)
def test_doctor_computes_how_many_processes_the_jobs_need(allowed: WorkerProcesses, found: list[str]) -> None:
    """A launcher, a scheduler and eight jobs; those of parallel queries and three of the server beside them."""
    assert [one.message for one in process_findings(allowed)] == found


@pytest.mark.parametrize(
    ("version", "warned"),
    [("2.23.0-dev", True), ("2.23.1", True), ("2.9.3", True), ("2.24.0", False), ("2.30.1", False), ("3.0.0", False)],
)
def test_doctor_warns_of_an_extension_that_refreshes_too_much(version: str, warned: bool) -> None:
    """Before 2.24 a late event costs a refresh of everything since."""
    found = list(version_findings(version))
    assert bool(found) is warned
    assert all("2.24 or later" in one.advice and one.level == "warning" for one in found)


def scraped(collector: JobsCollector) -> dict[str, str]:
    """State to number, as Prometheus reads it."""
    registry = CollectorRegistry()
    registry.register(collector)
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    return {line.split('"')[1]: line.rpartition(" ")[2] for line in lines}


def test_the_exporter_counts_jobs_by_state_and_never_takes_unknown_for_well() -> None:
    """Every state has a sample, so that one that comes is a rise; without TimescaleDB there is none."""
    expected = {"ok": "5.0", "missing": "0.0", "off": "0.0", "failing": "1.0", "never_ran": "0.0", "overdue": "0.0"}
    assert scraped(JobsCollector(lambda: [*WELL[1:], job(failed=True)])) == expected | {"unknown": "0.0"}
    assert scraped(JobsCollector(list)) == {}

    def hidden() -> list[Job]:
        raise psycopg.errors.InsufficientPrivilege("permission denied for view job_stats")

    assert scraped(JobsCollector(hidden)) == {"unknown": "1.0"}
