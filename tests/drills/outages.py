"""Drills in which a server goes away, rejects, or is slow."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import psycopg

from funnelwatch.schemas.codec import Encoder, Registry
from funnelwatch.schemas.redaction import revealed
from tests.drills.drill import Drill, DrillError
from tests.drills.events import Mix
from tests.drills.registry import DrillRegistry

if TYPE_CHECKING:
    from tests.drills.drill import Run

DEADLOCK_LIMIT_S = 20.0
DEADLOCK_TRIES = 12
BURST_SHARE = 30
"""One in so many records is produced just before Kafka is ended, so that it is confirmed and not yet read."""

REDIS_AWAY_S = 8.0
REDIS_STALL_S = 7.0
"""A worker may wait once for a Redis that hangs, until its client gives up after 5 s."""

AGAIN_LIMIT_S = 120.0
SLOW_FOR_S = 20.0
MOST_GROWTH_BYTES = 250_000_000
"""What librdkafka may hold (64 MB) and the fetches that wait (32 MB each), with room; much less than what is unread."""

SLOW = """
CREATE OR REPLACE FUNCTION drill_slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$;
CREATE TRIGGER drill_slow AFTER INSERT ON window_counts FOR EACH STATEMENT EXECUTE FUNCTION drill_slow();
"""
QUICK = "DROP TRIGGER drill_slow ON window_counts"


def redis_faults(run: Run) -> None:
    """Redis is killed, flushed, made read-only, filled up, frozen; counts go on, except for what is in hand."""
    kinds = [_redis_killed, _redis_flushed, _redis_read_only, _redis_full, _redis_frozen]
    for number in run.each_fault():
        kinds[number % len(kinds)](run)


def _without_redis(run: Run, what: str) -> None:
    """Counting must go on while Redis does not take part."""
    run.watch.mark()
    run.wait(REDIS_AWAY_S * run.plan.pace)
    if run.watch.seen.marked_stall_s >= REDIS_STALL_S:
        run.found(f"counting stood still for {run.watch.seen.marked_stall_s:.1f} s while Redis was {what}")


def _redis_killed(run: Run) -> None:
    run.servers.end("redis")
    run.count("Redis killed")
    _without_redis(run, "down")
    run.servers.start()


def _redis_flushed(run: Run) -> None:
    run.servers.redis().flushall()
    run.count("Redis flushed")


def _redis_read_only(run: Run) -> None:
    client = run.servers.redis()
    client.replicaof("127.0.0.1", 9)
    run.count("Redis made read-only")
    _without_redis(run, "read-only")
    client.replicaof("NO", "ONE")


def _redis_full(run: Run) -> None:
    client = run.servers.redis()
    client.config_set("maxmemory", "1")
    run.count("Redis full")
    _without_redis(run, "full")
    client.config_set("maxmemory", "0")


def _redis_frozen(run: Run) -> None:
    run.servers.freeze("redis")
    run.count("Redis frozen")
    try:
        _without_redis(run, "frozen")
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
    """Make a flush the victim of a deadlock."""
    for _ in range(DEADLOCK_TRIES):
        if _deadlock_with_a_flush(run):
            run.count("deadlock provoked")
            return
    raise DrillError("no deadlock of which a flush is the victim could be provoked")


def _deadlock_with_a_flush(run: Run) -> bool:
    """Hold counts that a flush wants, then want the progress that this flush holds; whether the flush gave way."""
    with psycopg.connect(revealed(run.settings.timescale_url), connect_timeout=5) as session:
        # Who has waited for a second looks, once: the flush is to be the first for whom there is a deadlock to see.
        session.execute("SET deadlock_timeout = '4s'")
        session.execute("LOCK TABLE window_counts IN SHARE MODE")
        if not run.until(lambda: bool(run.sql(BLOCKED)), DEADLOCK_LIMIT_S):
            return False
        topic = run.settings.events_topic
        statement = "SELECT 1 FROM stream_progress WHERE topic = %s FOR UPDATE"
        failed: list[psycopg.errors.DeadlockDetected] = []

        def want() -> None:
            try:
                session.execute(statement, [topic])
            except psycopg.errors.DeadlockDetected as error:
                failed.append(error)

        thread = threading.Thread(target=want)
        thread.start()
        run.until(lambda: not thread.is_alive(), DEADLOCK_LIMIT_S)
        thread.join()
        session.rollback()
    return not failed


BLOCKED = """
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name = 'funnelwatch aggregate'
"""


def broker_faults(run: Run) -> None:
    """Kafka is restarted in order, and killed."""
    kinds = [signal.SIGTERM, signal.SIGKILL, signal.SIGTERM]
    run.chance.shuffle(kinds)
    for number in run.each_fault():
        kind = kinds[number % len(kinds)]
        run.traffic.hold(run.plan.events // BURST_SHARE)
        run.servers.end("kafka", kind)
        run.count("Kafka killed" if kind == signal.SIGKILL else "Kafka stopped")
        run.pause(0.05, 0.3)
        run.servers.start()
        run.traffic.go_on()
        _counts_again(run, "Kafka")


def _counts_again(run: Run, what: str) -> None:
    before = sum(run.watch.seen.progress.values())

    def counts() -> bool:
        return sum(run.watch.seen.progress.values()) > before or run.watch.seen.lag == 0

    if not run.until(counts, AGAIN_LIMIT_S):
        run.found(f"nothing is counted {AGAIN_LIMIT_S:g} s after {what} was there again")


def slow_database(run: Run) -> None:
    """Each flush takes two seconds longer while everything is produced at once; memory must stay bounded."""
    for number in run.each_fault():
        run.sql(SLOW)
        run.count("PostgreSQL slowed to 2 s a flush")
        if number == run.faults - 1:
            before = run.fleet.memory()
            run.traffic.all_at_once()
        run.wait(SLOW_FOR_S * run.plan.pace)
        run.sql(QUICK)
        run.facts["lag_at_the_end_of_slowness"] = run.watch.seen.lag
    now = run.fleet.memory()
    grown = max((now[pid] - size for pid, size in before.items() if pid in now), default=0)
    run.facts["grown_while_slow_mb"] = grown // 1_000_000
    if grown > MOST_GROWTH_BYTES:
        run.found(f"a worker grew by {grown // 1_000_000} MB while the database was slow")
    if run.watch.seen.most_lag < run.plan.events // 10:
        run.found(f"the lag grew to {run.watch.seen.most_lag} only: this was no load")


def registry_faults(run: Run) -> None:
    """The registry is away while workers start, and while ids come that nobody has looked up."""
    registry: DrillRegistry = run.extras["registry"]
    for number in run.each_fault():
        encode = Encoder("FunnelEvent", Registry(registry.url), f"drill-{number}")
        encode.register()
        registry.up = False
        run.count("schema registry away")
        rejected = registry.rejected
        if number % 2 == 0 and (worker := run.any_worker()) is not None:
            run.fleet.kill(worker)
            run.count("killed at a random moment")
        run.source.encode = encode
        if not run.until(lambda rejected=rejected: registry.rejected > rejected, AGAIN_LIMIT_S):  # type: ignore[misc]
            raise DrillError("nobody asked the registry while it was away: this proves nothing")
        run.pause(0.2, 0.6)
        registry.up = True
        _counts_again(run, "the schema registry")


def start_registry(run: Run) -> str:
    """Start the registry of a run; its address."""
    registry = run.extras["registry"] = DrillRegistry()
    run.cleanup.callback(registry.close)
    return registry.url


REDIS = Drill(
    "redis",
    "Redis is killed, flushed, made read-only, filled up, frozen",
    redis_faults,
    faults=10,
    short_faults=3,
    every_s=3.0,
)
DATABASE = Drill(
    "database",
    "PostgreSQL is stopped, crashed, its connections ended, deadlocks provoked",
    database_faults,
    faults=12,
    short_faults=3,
    every_s=5.0,
)

BROKER = Drill(
    "broker",
    "Kafka is restarted twice and killed once",
    broker_faults,
    faults=3,
    short_faults=1,
    every_s=20.0,
    # librdkafka may lose Kafka for good; then the worker's watchdog ends it.
    may_exit=True,
)
SLOW_DATABASE = Drill(
    "slow",
    "PostgreSQL takes two seconds longer for each flush while everything is produced at once",
    slow_database,
    faults=2,
    short_faults=1,
    every_s=8.0,
    mix=Mix(padding=2_000),
    settings={"flush_max_events": 2_000},
)
REGISTRY = Drill(
    "registry",
    "the schema registry is away while workers start and while events of new schema ids come",
    registry_faults,
    faults=6,
    every_s=8.0,
    registry=start_registry,
)
