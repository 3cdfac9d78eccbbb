"""Jobs of a real TimescaleDB as `doctor` and the exporter see them; this one runs none by itself."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psycopg
import pytest

from funnelwatch.cli.doctor_jobs import ADVICE, check_jobs
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.timescale.jobs import COMPRESSION, RELATIONS, Job, JobState, read_jobs
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
    rows(extended, "UPDATE schema_migrations SET run_at = now() RETURNING 1")
    return extended


def found(database: Database) -> dict[str, Job]:
    """By name."""
    return {job.name: job for job in read_jobs(database)}


def later(database: Database) -> None:
    """Days pass."""
    rows(database, "UPDATE schema_migrations SET run_at = now() - INTERVAL '9 days' RETURNING 1")


def test_every_job_is_seen_with_the_table_that_it_compresses(jobs: Database) -> None:
    """The extension compresses; workers do everything else."""
    kept = found(jobs)
    assert kept.keys() == {f"compression of {relation}" for relation in RELATIONS}
    assert {job.kind for job in kept.values()} == {COMPRESSION}
    assert {job.state for job in kept.values()} == {JobState.OK}


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
    """By `doctor` with the statement that mends it."""
    name = "compression of rollup_5m"
    for state, statement in (
        (JobState.OFF, "SELECT alter_job(%s, scheduled => false)"),
        (JobState.MISSING, "SELECT delete_job(%s)"),
    ):
        rows(jobs, statement, found(jobs)[name].job_id)
        job = found(jobs)[name]
        assert job.state is state
        [failed] = [one for one in check_jobs(Settings(timescale_url=jobs.url)) if name in one.message]
        assert failed.level != "ok"
        advice = ADVICE[state].format(job_id=job.job_id, relation=job.relation)
        assert failed.advice == advice
        rows(jobs, advice[: advice.index(")") + 1])
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
