"""Kafka, the database and Redis go away under a real worker: its metrics, pages, log and a real Prometheus tell."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.deploy.embedded.stack import Stack
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.sinks.timescale.closing import ClosingStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.freshness import FreshnessStore
from funnelwatch.sinks.timescale.migrations import migrate
from tests.integration.test_prometheus import exporter
from tests.programs import get_json, needs, program
from tests.stack import FOLDER_PREFIX, wait_until
from tests.traffic import event, prepared, produce
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.deploy.embedded.state import ServiceState
    from tests.worker import Worker

SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus"
QUICK = {"window_s": 1, "allowed_disorder_s": 0.2, "idle_timeout_s": 0.5, "late_settle_s": 0.5}
MOST_LINES_A_MINUTE = 20
OUTAGE_S = 75


def metrics(one: Worker) -> dict[str, float]:
    """What its /metrics page shows, by name and labels."""
    found = {}
    for line in one.get("/metrics")[1].splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def lines_of(one: Worker, begin: int) -> list[str]:
    """What it has logged since then."""
    return one.text()[begin:].splitlines()


def firing(url: str) -> set[str]:
    """The alerts that Prometheus has firing now."""
    alerts: list[dict[str, Any]] = get_json(f"{url}/api/v1/alerts")["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def watched(folder: Path, targets: dict[str, int]) -> list[str]:
    """The shipped configuration and rules, sooner: what waits for minutes waits for seconds. Prometheus' arguments."""
    config = folder / "prometheus.yml"
    config.write_text((SHIPPED / "prometheus.yml").read_text().replace("15s", "1s"))
    rules = (SHIPPED / "funnelwatch.rules.yml").read_text()
    (folder / "funnelwatch.rules.yml").write_text(re.sub(r"> 300\b", "> 30", re.sub(r"for: \d+m", "for: 2s", rules)))
    (folder / "targets").mkdir()
    for name, port in targets.items():
        kind = "exporter" if name == "exporter" else "pipeline"
        (folder / "targets" / f"{kind}-{name}.yml").write_text(
            f"- targets: ['{HOST}:{port}']\n  labels: {{part: {name}}}\n"
        )
    arguments = [f"--config.file={config}", f"--storage.tsdb.path={folder}/tsdb"]
    return [*arguments, f"--web.listen-address={HOST}:{{port}}"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """The data folder of a stack of this test's own, which is ended. Every user may pass to it, unlike to tmp_path."""
    made = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
    made.chmod(0o755)
    yield made
    Stack(made, "tansu").down(purge=True)
    shutil.rmtree(made, ignore_errors=True)


@needs("prometheus")
def test_an_outage_of_everything_is_told_by_metrics_pages_log_and_prometheus(tmp_path: Path, folder: Path) -> None:
    """Ages grow, the lag is absent, liveness stays 200, few lines are logged, and each shipped rule fires."""
    services = Stack(folder, "tansu").up(lambda _: None).services
    # The stack's file in its data folder has the addresses and the passwords.
    settings = prepared(Settings(data_dir=folder, cache_horizon_s=600.0, **QUICK))
    port = free_port()
    with ExitStack() as running:
        one = running.enter_context(worker(settings)).wait_assigned()
        running.enter_context(exporter(settings, port, tmp_path / "exporter"))
        url = running.enter_context(
            program("prometheus", tmp_path, "/-/ready", *watched(tmp_path, {"worker": one.port, "exporter": port}))
        )
        produce(settings, [event() for _ in range(50)])
        wait_until(lambda: settled(one), "all is well")
        before = metrics(one)
        assert before['funnelwatch_last_success_age_seconds{what="flush"}'] < 60
        for name in ("event_to_flush_seconds_count", "event_to_redis_seconds_count", "evaluation_seconds_count"):
            assert before[f"funnelwatch_{name}"] > 0, name
        assert before["funnelwatch_counting_busy_seconds_total"] > 0
        wait_until(lambda: metrics(one)["funnelwatch_redis_rebuild_ratio"] == 1, "Redis has all recent windows")
        assert before["process_resident_memory_bytes"] > 0
        assert answers_with(port, "process_open_fds", "funnelwatch_workers_alive 1.0")
        wait_until(lambda: not firing(url), "nothing fires")
        assert healthy(one)

        begin, began = len(one.text()), time.monotonic()
        for name in ("kafka", "redis", "postgres"):
            os.kill(pid(services[name]), signal.SIGKILL)
        wanted = {
            "FunnelwatchKafkaUnreachable",
            "FunnelwatchDatabaseUnreachable",
            "FunnelwatchDatabaseAway",
            "FunnelwatchRedisUnreachable",
            "FunnelwatchNotClosing",
        }
        wait_until(lambda: wanted <= firing(url), "each shipped rule fires", 180)
        first = metrics(one)
        assert {first[f"funnelwatch_{name}_reachable"] for name in ("kafka", "database", "redis")} == {0}
        assert not [name for name in first if name.startswith("funnelwatch_lag_records")]
        assert first["funnelwatch_standstill_seconds"] != first["funnelwatch_standstill_seconds"], "it is NaN"
        time.sleep(max(0.0, OUTAGE_S - (time.monotonic() - began)))
        later = metrics(one)
        for age in ("funnelwatch_watermark_age_seconds", "funnelwatch_closed_through_age_seconds"):
            assert later[age] >= first[age] > 20
        assert later['funnelwatch_last_contact_age_seconds{server="Kafka"}'] > 20
        status, body = one.get("/healthz")
        assert (status, json.loads(body)["ok"], bool(json.loads(body)["waiting"])) == (200, False, True), body
        assert one.get("/readyz")[0] == 503
        logged = lines_of(one, begin)
        minutes = (time.monotonic() - began) / 60
        assert len(logged) < MOST_LINES_A_MINUTE * minutes, "\n".join(logged)
        for server in ("Kafka", "PostgreSQL"):
            assert [line for line in logged if f"{server}: waiting" in line], "\n".join(logged)

        one.kill()
        wait_until(lambda: {"FunnelwatchDown", "FunnelwatchNoWorker"} <= firing(url), "the dead worker is told", 180)


def answers_with(port: int, *words: str) -> bool:
    """Whether the exporter's page has these words."""
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=30) as answer:
        page = answer.read().decode()
    return all(word in page for word in words)


def settled(one: Worker) -> bool:
    """Whether it has counted something, has closed windows, and knows all its servers."""
    found = metrics(one)
    reachable = all(found.get(f"funnelwatch_{name}_reachable") == 1 for name in ("kafka", "database", "redis"))
    age = found.get("funnelwatch_closed_through_age_seconds", float("nan"))
    counts = ("event_to_flush_seconds_count", "event_to_redis_seconds_count", "evaluation_seconds_count")
    return bool(reachable and all(found.get(f"funnelwatch_{name}") for name in counts) and age < 15)


def healthy(one: Worker) -> bool:
    """Whether it says that all is well."""
    status, body = one.get("/healthz")
    return status == 200 and json.loads(body)["ok"] is True


def pid(service: ServiceState) -> int:
    """The process id of a server of this test's own."""
    assert service.pid
    return service.pid


@pytest.mark.parametrize("ends", ["ends", "is frozen"])
def test_a_worker_that_ends_and_one_that_is_frozen_are_told_apart(settings: Settings, ends: str) -> None:
    """By its heartbeat in the database: on purpose with the time of its end, frozen by silence."""
    fast = prepared(settings.model_copy(update=QUICK))
    with worker(fast) as one, psycopg.connect(revealed(fast.timescale_url), autocommit=True) as session:
        one.wait_assigned()

        def row() -> Any:
            return session.execute(
                "SELECT pid, error, ended_at IS NOT NULL, clock_timestamp() - seen_at FROM worker_heartbeats"
            ).fetchone()

        wait_until(row, "it has sent a heartbeat")
        assert row()[:3] == (one.pid, None, False)
        if ends == "ends":
            assert one.stop() == 0
            assert row()[:3] == (one.pid, None, True)
        else:
            os.kill(one.pid, signal.SIGSTOP)
            try:
                wait_until(lambda: row()[3].total_seconds() > 12, "it is silent for longer than two beats")
                assert row()[2] is False
            finally:
                os.kill(one.pid, signal.SIGCONT)
            wait_until(lambda: row()[3].total_seconds() < 8, "it is heard of again")


def test_windows_that_close_and_are_not_evaluated_are_told(database_url: str) -> None:
    """A detector that stands: the time counts from the first window that it has not evaluated, and ends when it has."""
    database = Database(database_url)
    migrate(database, 60_000)
    with database.transaction() as cursor:
        cursor.execute("INSERT INTO funnel_progress (funnel) VALUES ('f')")
    closing, alerts, store = ClosingStore(database), AlertStore(database), FreshnessStore(database, "events")
    now = time.time_ns() // 60_000_000_000 * 60_000

    def unevaluated() -> int | None:
        return store.funnels()[0].unevaluated_since_ms

    closing.finish_closing("f", now - 180_000)
    assert unevaluated() is None
    closing.finish_closing("f", now - 120_000, now - 180_000)
    first = unevaluated()
    assert first is not None
    closing.finish_closing("f", now - 60_000, now - 120_000)
    assert unevaluated() == first
    alerts.save("f", now - 180_000, {}, [])
    evaluated_some = unevaluated()
    assert evaluated_some is not None
    assert evaluated_some >= first
    alerts.save("f", now - 120_000, {}, [])
    assert unevaluated() is None
    closing.finish_closing("f", now, now - 60_000)
    again = unevaluated()
    assert again is not None
    assert again >= evaluated_some
    assert store.of("f", 10 * 60_000).state == "fresh"
    with database.transaction() as cursor:
        cursor.execute("UPDATE funnel_progress SET unevaluated_since = now() - interval '5 minutes'")
        cursor.execute("UPDATE detector_progress SET evaluated_at = now() - interval '6 minutes'")
    found = store.of("f", 10 * 60_000)
    assert (found.state, str(found.why)) == ("stale", "not_evaluated")
    assert "(5 min): no alert can fire" in found.message
    database.close()
