"""Jobs of a real TimescaleDB as `doctor` and the exporter see them; this one runs none by itself."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psycopg
import pytest
from funnelwatch.sinks.timescale.refreshing import follow_dropped

from funnelwatch.cli.doctor_jobs import check_jobs
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.timescale.jobs import REFRESH, RELATIONS, ROLLUPS, Job, JobState, read_jobs
from funnelwatch.sinks.timescale.retention import Retention, set_retention
from tests.integration.test_views import rows

if TYPE_CHECKING:
    from funnelwatch.sinks.timescale.database import Database


@pytest.fixture
def jobs(extended: Database) -> Database:
    """As it was made just now, and nothing runs its jobs."""
    with contextlib.suppress(psycopg.Error):  # what there is in WebAssembly runs none anyway
        rows(extended, "SELECT _timescaledb_functions.stop_background_workers()")
    rows(extended, "DELETE FROM _timescaledb_internal.bgw_job_stat_history RETURNING 1")
    rows(extended, "DELETE FROM _timescaledb_internal.bgw_job_stat RETURNING 1")
    set_retention(extended, Retention())
    rows(extended, "UPDATE retention SET set_at = now(), dropped_before = NULL RETURNING 1")
    follow_dropped(extended)
    return extended


def found(database: Database) -> dict[str, Job]:
    """By name."""
    return {job.name: job for job in read_jobs(database)}


def later(database: Database) -> None:
    """Days pass."""
    rows(database, "UPDATE retention SET set_at = now() - INTERVAL '9 days' RETURNING 1")


def test_every_job_is_seen_with_what_it_works_on(jobs: Database) -> None:
    """Those of retention too, once something is to be dropped."""
    kept = found(jobs)
    assert {job.relation for job in kept.values()} == set(RELATIONS)
    assert {job.state for job in kept.values()} == {JobState.OK}
    assert {job.relation for job in kept.values() if job.kind == REFRESH} == set(ROLLUPS)
    set_retention(jobs, Retention(windows=30))
    assert found(jobs).keys() - kept.keys() == {
        f"retention of {relation}"
        for relation in ("window_counts", "window_durations", "metric_counts", "metric_durations")
    }


def test_jobs_that_never_run_are_told(jobs: Database) -> None:
    """After their time has passed; by `doctor` as one failure that says what to do."""
    later(jobs)
    assert {job.state for job in found(jobs).values()} == {JobState.NEVER_RAN}
    findings = list(check_jobs(Settings(timescale_url=jobs.url)))
    [failed] = [one for one in findings if "runs, for" in one.message]
    assert failed.level == "FAILED"
    assert "jobs of TimescaleDB runs, for 9 d" in failed.message
    assert "shared_preload_libraries" in failed.advice


def test_a_job_that_is_off_or_gone_is_told(jobs: Database) -> None:
    """A worker makes the one that is gone again; the one that is off stays off."""
    name = "refresh of counts_5m"
    rows(jobs, "SELECT alter_job(%s, scheduled => false)", found(jobs)[name].job_id)
    follow_dropped(jobs)
    assert found(jobs)[name].state is JobState.OFF
    rows(jobs, "SELECT remove_continuous_aggregate_policy('counts_5m')")
    assert found(jobs)[name].state is JobState.MISSING
    follow_dropped(jobs)
    assert found(jobs)[name].state is JobState.OK


def test_the_error_of_a_failing_job_is_told(jobs: Database) -> None:
    """As the extension's own views have it."""
    job = found(jobs)["compression of window_counts"]
    rows(
        jobs,
        "INSERT INTO _timescaledb_internal.bgw_job_stat VALUES "
        "(%s, now(), now(), now(), '-infinity', false, 2, '1s', '1s', 0, 2, 0, 2, 0, 0) RETURNING 1",
        job.job_id,
    )
    rows(
        jobs,
        "INSERT INTO _timescaledb_internal.bgw_job_stat_history "
        "(job_id, pid, execution_start, execution_finish, succeeded, data) VALUES "
        '(%s, 1, now(), now(), false, \'{"error_data": {"message": "could not resize shared memory"}}\') RETURNING 1',
        job.job_id,
    )
    seen = found(jobs)["compression of window_counts"]
    assert (seen.state, seen.error) == (JobState.FAILING, "could not resize shared memory")


def test_plain_postgresql_has_no_jobs(plain: Database) -> None:
    """Nothing is missing there."""
    assert read_jobs(plain) == []
    assert list(check_jobs(Settings(timescale_url=plain.url))) == []
