"""Drills in which a server goes away, refuses, or is slow."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import psycopg

from funnelwatch.drills.drill import Drill, DrillError

if TYPE_CHECKING:
    from funnelwatch.drills.drill import Run

DEADLOCK_LIMIT_S = 20.0


def redis_faults(run: Run) -> None:
    """Redis is killed, flushed, made read-only, filled up, frozen; counts go on, except for what is in hand."""
    kinds = [_redis_killed, _redis_flushed, _redis_read_only, _redis_full, _redis_frozen]
    for number in run.each_fault():
        kinds[number % len(kinds)](run)


def _goes_on(run: Run, what: str) -> None:
    """Counting must go on within some seconds while Redis does not take part."""
    before = sum(run.watch.seen.progress.values())
    if not run.until(lambda: sum(run.watch.seen.progress.values()) > before, 15):
        run.found(f"counting stood still while Redis was {what}")


def _redis_killed(run: Run) -> None:
    run.servers.end("redis")
    run.count("Redis killed")
    _goes_on(run, "down")
    run.pause(0.2, 0.6)
    run.servers.start()


def _redis_flushed(run: Run) -> None:
    run.servers.redis().flushall()
    run.count("Redis flushed")


def _redis_read_only(run: Run) -> None:
    client = run.servers.redis()
    client.replicaof("127.0.0.1", 9)
    run.count("Redis made read-only")
    _goes_on(run, "read-only")
    run.pause(0.2, 0.6)
    client.replicaof("NO", "ONE")


def _redis_full(run: Run) -> None:
    client = run.servers.redis()
    client.config_set("maxmemory", "1")
    run.count("Redis full")
    _goes_on(run, "full")
    run.pause(0.2, 0.6)
    client.config_set("maxmemory", "0")


def _redis_frozen(run: Run) -> None:
    run.servers.freeze("redis")
    run.count("Redis frozen")
    try:
        _goes_on(run, "frozen")
    finally:
        run.servers.thaw("redis")


def database_faults(run: Run) -> None:
    """PostgreSQL is stopped, killed, frozen, its connections are ended, deadlocks are provoked."""
    kinds = [_sessions_ended, _deadlock, _database_stopped, _deadlock, _sessions_ended, _database_killed]
    for number in run.each_fault():
        kinds[number % len(kinds)](run)


def _sessions_ended(run: Run) -> None:
    rows = run.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND application_name <> 'funnelwatch drill watch'"
    )
    run.count("database connections ended")
    run.facts["connections_ended"] = run.facts.get("connections_ended", 0) + len(rows)


def _database_stopped(run: Run) -> None:
    run.servers.end("postgres", signal.SIGINT)
    run.count("PostgreSQL stopped and started")
    run.pause(0.1, 1.0)
    run.servers.start()


def _database_killed(run: Run) -> None:
    run.servers.end("postgres", signal.SIGQUIT)
    run.count("PostgreSQL crashed and recovered")
    run.pause(0.1, 0.5)
    run.servers.start()


def _deadlock(run: Run) -> None:
    """Hold counts that a flush wants, then want the progress that this flush holds."""
    with psycopg.connect(run.settings.timescale_url, connect_timeout=5) as session:
        # The worker, which looks first, is the victim.
        session.execute("SET deadlock_timeout = '60s'")
        session.execute("LOCK TABLE window_counts IN SHARE MODE")
        waiting = run.until(lambda: bool(run.sql(BLOCKED)), DEADLOCK_LIMIT_S)
        if not waiting:
            raise DrillError("no flush waited for a lock: no deadlock could be provoked")
        topic = run.settings.events_topic
        statement = "SELECT 1 FROM stream_progress WHERE topic = %s FOR UPDATE"
        failed: list[psycopg.Error] = []

        def want() -> None:
            try:
                session.execute(statement, [topic])
            except psycopg.Error as error:
                failed.append(error)

        thread = threading.Thread(target=want)
        thread.start()
        run.until(lambda: not thread.is_alive(), DEADLOCK_LIMIT_S)
        thread.join()
        session.rollback()
    if failed:
        raise DrillError(f"the drill was the victim of its own deadlock: {failed[0]}")
    run.count("deadlock provoked")


BLOCKED = """
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'funnelwatch aggregate'
"""


REDIS = Drill(
    "redis", "Redis is killed, flushed, made read-only, filled up, frozen", redis_faults, faults=10, every_s=6.0
)
DATABASE = Drill(
    "database",
    "PostgreSQL is stopped, crashed, its connections ended, deadlocks provoked",
    database_faults,
    faults=12,
    every_s=5.0,
)
