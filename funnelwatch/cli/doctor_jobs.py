"""Whether the jobs of TimescaleDB do their work, and whether the server may run them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import psycopg

from funnelwatch.cli.doctor_services import Finding
from funnelwatch.format import lasting
from funnelwatch.schemas.redaction import error_clause
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.jobs import ENOUGH_BACKGROUND, JobState, read_jobs, read_worker_processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.jobs import Job, WorkerProcesses

SETTLING = "Give timescaledb.max_background_workers and max_worker_processes room, see docs/running.md."
ADVICE = {
    JobState.MISSING: "SELECT add_compression_policy('{relation}', INTERVAL '30 days') makes it again.",
    JobState.OFF: "SELECT alter_job({job_id}, scheduled => true) lets it run again.",
    JobState.FAILING: "CALL run_job({job_id}) shows the error at once; all are in timescaledb_information.job_errors.",
    JobState.NEVER_RAN: "CALL run_job({job_id}) runs it now; see the server's log for why the scheduler does not.",
    JobState.OVERDUE: "CALL run_job({job_id}) runs it now; see the server's log for why the scheduler does not.",
}
NOT_RUN = (JobState.NEVER_RAN, JobState.OVERDUE)


def check_jobs(settings: Settings) -> Iterator[Finding]:
    """One finding if all is well, else one for each job that is not, or for all of them together."""
    database = Database(settings.timescale_url, application="funnelwatch doctor")
    try:
        jobs = read_jobs(database)
        if jobs:
            yield from job_findings(jobs)
            yield from process_findings(read_worker_processes(database))
    except psycopg.errors.UndefinedTable:
        return  # another finding reports the missing tables
    except psycopg.Error as error:
        message = f"unknown: the jobs of TimescaleDB cannot be read: {error_clause(error)}"
        yield Finding("database jobs", "warning", message, "Ask as the user of the workers.")
    finally:
        database.close()


def job_findings(jobs: Sequence[Job]) -> Iterator[Finding]:
    """The findings on some jobs."""
    failing = [job for job in jobs if job.state is not JobState.OK]
    if not failing:
        yield Finding("database jobs", "ok", f"the {len(jobs)} jobs of TimescaleDB do their work")
        return
    if all(job.state in NOT_RUN for job in jobs):
        longest = max(job.succeeded_ago_s or job.known_s for job in jobs)
        message = f"none of the {len(jobs)} jobs of TimescaleDB runs, for {lasting(int(longest * 1000))}"
        advice = (
            "Nothing is compressed. See that timescaledb is in shared_preload_libraries, and the server's log for its "
            f"background workers. {SETTLING}"
        )
        yield Finding("database jobs", "FAILED", message, advice)
        return
    for job in failing:
        advice = ADVICE[job.state].format(job_id=job.job_id, relation=job.relation)
        yield Finding("database jobs", _level(job), _sentence(job), advice)


def _level(job: Job) -> Literal["warning", "FAILED"]:
    return "warning" if job.state is JobState.OFF else "FAILED"


def _sentence(job: Job) -> str:
    match job.state:
        case JobState.MISSING:
            return f"there is no job for the {job.name}"
        case JobState.OFF:
            return f"{job.name}: somebody has switched the job {job.job_id} off"
        case JobState.FAILING:
            since = "" if job.succeeded_ago_s is None else f"; it succeeded {_ago(job.succeeded_ago_s)} ago"
            return f"{job.name}: the job {job.job_id} fails: {job.error or 'its error is not known'}{since}"
        case JobState.OVERDUE if job.succeeded_ago_s is not None:
            every, ago = _ago(job.every_s), _ago(job.succeeded_ago_s)
            return f"{job.name}: the job {job.job_id} should run every {every}, and succeeded {ago} ago"
        case _:
            return f"{job.name}: the job {job.job_id} has never {'succeeded' if job.ran else 'run'}"


def _ago(seconds: float) -> str:
    return lasting(int(seconds * 1000))


def process_findings(allowed: WorkerProcesses) -> Iterator[Finding]:
    """A warning where jobs may have to wait for a process, or never get one."""
    background, processes = ENOUGH_BACKGROUND, allowed.enough_processes
    if allowed.background is None:
        message = "timescaledb.max_background_workers is not set: the extension's loader is not there, and no job runs"
        yield Finding("database jobs", "FAILED", message, "Put timescaledb into shared_preload_libraries and restart.")
        return
    wanted = []
    if allowed.background < background:
        wanted.append(f"timescaledb.max_background_workers is {allowed.background}, {background} are needed")
    if allowed.processes < processes:
        wanted.append(f"max_worker_processes is {allowed.processes}, {processes} are needed")
    if wanted:
        advice = "ALTER SYSTEM SET them and restart the server; jobs that find no process are late or never run."
        yield Finding("database jobs", "warning", "; ".join(wanted), advice)
