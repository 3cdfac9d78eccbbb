"""One drill from start to end: database and topics of its own, workers, traffic, faults, idleness, comparison."""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import redis
from confluent_kafka import KafkaException

from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.codec import Encoder, Registry
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from tests.drills.compare import COUNTS, Comparison, Verdict, in_redis
from tests.drills.compare_sessions import compare_sessions
from tests.drills.events import MAX_VALUE, STEPS, Mix, Source
from tests.drills.fleet import Fleet
from tests.drills.funnels import declared_funnels, funnels_file
from tests.drills.ledger import Ledger
from tests.drills.people import People
from tests.drills.traffic import Traffic
from tests.drills.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.drills.fleet import Worker
    from tests.drills.plan import Plan
    from tests.drills.servers import Servers

START_S = 180.0
STEP_S = 0.05

RULES = """\
groups:
  - name: drill
    rules:
      - alert: DrillThreshold
        kind: threshold
        step: all
        by: [[], [os]]
        below: 0.6
        over: {over}s
        min_impressions: 8
      - alert: DrillChange
        kind: change
        step: all
        by: [os]
        drop: 0.3
        over: {over}s
        offset: {over}s
        min_impressions: 8
"""

IDLE = """
SELECT
    (SELECT count(*) FROM late_windows WHERE NOT published)
    + (SELECT count(*) FROM alerts WHERE published_at IS NULL)
    + (SELECT count(*) FROM funnel_progress AS f
        WHERE f.closed_through IS NULL OR f.closed_through <= (
            SELECT max(w.window_start) FROM conversion AS w
            WHERE w.funnel = f.funnel AND w.impressions + w.successes + w.failures > 0
        ))
    + (SELECT count(*) FROM funnel_progress AS f
        WHERE NOT EXISTS (
            SELECT 1 FROM detector_progress AS d
            WHERE d.funnel = f.funnel AND d.last_window >= f.closed_through - 3 * %(window_ms)s * interval '1 ms'
        ))
"""
"""0 when everything that was counted has been closed, evaluated and published."""


class DrillError(RuntimeError):
    """The drill could not be carried out, so that it says nothing about the pipeline."""


@dataclass(frozen=True)
class Drill:
    """A kind of drill.

    Attributes:
        name: how it is called.
        fault: what happens, in a sentence.
        script: causes the faults; gets the run.
        faults: how many at full length.
        short_faults: how many in the short form.
        every_s: seconds from one fault to the next, about.
        mix: what the records are like.
        settings: of the workers, where they differ.
        registry: starts a schema registry; its address.
        all_declared: whether the other funnel is declared as well, and events of undeclared ones are rejected.
        may_exit: whether a worker may end by itself, to be started again by its supervisor.
    """

    name: str
    fault: str
    script: Callable[[Run], None]
    faults: int = 20
    short_faults: int = 2
    every_s: float = 4.0
    mix: Mix = field(default_factory=Mix)
    settings: Mapping[str, Any] = field(default_factory=dict)
    registry: Callable[[Run], str] | None = None
    all_declared: bool = False
    may_exit: bool = False


class Run:
    """What the script of a drill works with."""

    def __init__(self, drill: Drill, plan: Plan, servers: Servers, say: Callable[[str], None]) -> None:
        self.drill = drill
        self.plan = plan
        self.servers = servers
        self.say = say
        self.chance = random.Random(f"{drill.name} {plan.seed}")
        self.faults = plan.faults or (drill.short_faults if plan.is_short else drill.faults)
        self.happened: Counter[str] = Counter()
        self.facts: dict[str, Any] = {}
        self.extras: dict[str, Any] = {}
        self.faults_found: list[str] = []
        self.began = time.monotonic()
        self.cleanup = ExitStack()
        self.settings: Settings
        self.fleet: Fleet
        self.source: Source
        self.traffic: Traffic
        self.watch: Watch
        self.ledger = Ledger()

    def each_fault(self) -> Iterator[int]:
        """Numbers of faults, with a random pause before each; the traffic is spread over them."""
        for number in range(self.faults):
            self.pause(0.3, 1.7)
            yield number
            self.traffic.share((number + 1) / (self.faults + 1))
        self.pause(0.8, 1.2)

    def pause(self, low: float, high: float) -> None:
        """Wait for a random part of the drill's pace, while dead workers are started again."""
        self.wait(self.chance.uniform(low, high) * self.drill.every_s * self.plan.pace)

    def wait(self, seconds: float) -> None:
        """Wait, while dead workers are started again."""
        self.until(lambda: False, seconds)

    def until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Wait for a condition, while dead workers are started again; whether it came true in time."""
        end = time.monotonic() + limit_s
        while True:
            self.fleet.tend()
            self.traffic.check()
            if condition():
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(STEP_S)

    def count(self, what: str) -> None:
        """One more fault of this kind has happened."""
        self.happened[what] += 1
        self.say(f"{time.monotonic() - self.began:6.1f} s  {what}")

    def found(self, what: str) -> None:
        """Something is not as promised, whatever the comparison says."""
        self.faults_found.append(what)

    def any_worker(self) -> Worker | None:
        """A random one of those that run."""
        running = self.fleet.running()
        return self.chance.choice(running) if running else None

    def sql(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Rows of a statement on the drill's database."""
        with psycopg.connect(revealed(self.settings.timescale_url), autocommit=True, connect_timeout=5) as session:
            done = session.execute(statement, parameters)
            return done.fetchall() if done.description else []


def run_drill(
    drill: Drill, plan: Plan, servers: Servers, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Carry out one drill; the result, whose ``ok`` says whether every promise was kept.

    Raises:
        DrillError, TrafficError: it could not be carried out.
    """
    run = Run(drill, plan, servers, say)
    with run.cleanup:
        _prepare(run)
        run.say(f"drill {drill.name}, seed {plan.seed}: {drill.fault}")
        run.traffic.start()
        drill.script(run)
        run.traffic.finish()
        idle = _wait_idle(run)
        stalled = run.watch.seen.longest_stall_s
        run.fleet.stop()
        run.watch.stop()
        verdict = Comparison(run.settings, run.ledger, _registry(run)).run()
        funnels = declared_funnels(run.plan.session_window_ms, all_declared=drill.all_declared)
        compare_sessions(run.settings, funnels, run.ledger, verdict)
    _evaluate(run, verdict, idle)
    return _result(run, verdict, stalled)


def _prepare(run: Run) -> None:
    drill, plan, servers = run.drill, run.plan, run.servers
    name = f"drill_{drill.name}_{plan.seed}_{uuid.uuid4().hex[:6]}"
    folder = servers.folder / name
    folder.mkdir()
    folder.chmod(0o755)
    rules = folder / "rules"
    rules.mkdir()
    (rules / "drill.yml").write_text(RULES.format(over=2 * plan.window_s))
    registry = drill.registry(run) if drill.registry else ""
    funnels = folder / "funnels.yml"
    funnels.write_text(funnels_file(plan.session_window_ms, all_declared=drill.all_declared))
    run.settings = Settings(
        **{
            "data_dir": folder,
            "kafka_bootstrap_servers": servers.url("kafka"),
            "kafka_config": servers.state.services["kafka"].config,
            "redis_url": servers.url("redis"),
            "timescale_url": servers.make_database(name),
            "schema_registry_url": registry,
            "redis_prefix": name,
            "consumer_group": name,
            "rules_path": rules,
            "funnels_path": funnels,
            "max_value_bytes": MAX_VALUE,
            **{f"{topic}_topic": f"{name}.{topic}" for topic in ("events", "windows", "alerts", "dead_letters")},
            **plan.settings(),
            **drill.settings,
        }
    )
    ensure_topics(run.settings)
    database = Database(run.settings.timescale_url)
    migrate(database, run.settings.window_ms)
    database.close()
    run.fleet = Fleet(run.settings, plan.workers, folder)
    run.cleanup.callback(run.fleet.end)
    # The traffic has a generator of its own: what is produced does not depend on when faults happen.
    chance = random.Random(f"traffic {drill.name} {plan.seed}")
    run.source = Source(
        chance,
        Encoder("FunnelEvent", _registry(run)),
        drill.mix,
        window_ms=plan.window_ms,
        people=People(chance, plan.people, len(STEPS)),
        repeat_within_ms=plan.repeat_within_ms,
    )
    expected_s = (run.faults + 1) * drill.every_s * plan.pace
    run.fleet.start()
    run.watch = Watch(run.settings, run.ledger, run.fleet)
    run.cleanup.callback(run.watch.stop)
    run.traffic = Traffic(
        run.settings, run.source, run.ledger, events=plan.events, expected_s=expected_s, faults=run.faults
    )
    run.cleanup.callback(run.traffic.stop)
    started = run.until(
        lambda: (
            run.sql("SELECT count(*) FROM stream_progress WHERE topic = %s", [run.settings.events_topic])
            == [(plan.partitions,)]
        ),
        START_S,
    )
    if not started:
        raise DrillError(f"the workers were given no partitions within {START_S:g} s; see {folder}")
    run.watch.start()
    run.began = time.monotonic()


def _registry(run: Run) -> Registry | None:
    url = run.settings.schema_registry_url
    return Registry(url) if url else None


def _wait_idle(run: Run) -> str:
    """Wait until everything in the log is dealt with; what is not in time, in a sentence."""
    limit = run.plan.idle_limit_s
    ends = dict(run.ledger.ends)

    def counted() -> bool:
        return all(run.watch.seen.progress.get(partition, 0) >= end for partition, end in ends.items())

    def closed() -> bool:
        try:
            return run.sql(IDLE, {"window_ms": run.plan.window_ms}) == [(0,)]
        except psycopg.OperationalError:
            return False

    def copied() -> bool:
        try:
            return in_redis(run.settings) == {tuple(row[:8]): list(row[8:]) for row in run.sql(COUNTS)}
        except (psycopg.OperationalError, redis.RedisError, KafkaException):
            return False

    began = time.monotonic()
    if not run.until(counted, limit):
        return f"not everything is counted {limit:g} s after the last fault: {run.watch.seen.lag} records are left"
    run.facts["counted_after_s"] = round(time.monotonic() - began, 1)
    for condition, otherwise in ((closed, "closed, evaluated and published"), (copied, "in Redis")):
        end = time.monotonic() + limit
        while not condition():
            if time.monotonic() > end:
                return f"not everything is {otherwise} {limit:g} s after it was counted"
            run.wait(0.3)
    run.facts["idle_after_s"] = round(time.monotonic() - began, 1)
    run.say(f"{time.monotonic() - run.began:6.1f} s  idle")
    return ""


def _evaluate(run: Run, verdict: Verdict, idle: str) -> None:
    for what in run.watch.seen.too_much:
        verdict.wrongly(f"Redis showed more than the database: {what}")
    ended = run.fleet.unexpected
    if run.drill.may_exit:
        run.facts["workers_that_ended_to_be_started_again"] = len(ended)
        ended = []
    for what in [idle, *run.faults_found, *ended]:
        if what:
            verdict.wrongly(what)
    if verdict.facts["alerts"] == 0:
        verdict.wrongly("no alert fired: the drill's incidents should have made some")


def _result(run: Run, verdict: Verdict, stalled: float) -> dict[str, Any]:
    seen = run.watch.seen
    growth = [most - first for first, most in seen.memory.values()]
    return {
        "drill": run.drill.name,
        "seed": run.plan.seed,
        "ok": verdict.ok,
        "lost": verdict.lost,
        "double": verdict.double,
        "wrong": verdict.wrong,
        "alerts_duplicated": verdict.alerts_duplicated,
        "longest_stall_s": round(stalled, 1),
        "notes": verdict.notes,
        "records": len(run.ledger.entries),
        **verdict.facts,
        "faults": dict(sorted(run.happened.items())),
        "workers": run.plan.workers,
        "worker_starts": run.fleet.starts,
        "partitions": run.plan.partitions,
        "most_lag": seen.most_lag,
        "redis_compared": seen.compared,
        "most_memory_mb": max((most for _, most in seen.memory.values()), default=0) // 1_000_000,
        "most_memory_growth_mb": max(growth, default=0) // 1_000_000,
        "longest_leave_s": round(run.fleet.longest_leave_s, 1),
        **run.facts,
        "kafka": run.servers.program("kafka"),
        "database": run.servers.program("postgres"),
        "seconds": round(time.monotonic() - run.began, 1),
    }
