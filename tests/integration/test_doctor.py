"""What `funnelwatch doctor` finds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import redis
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.cimpl import NewTopic

from funnelwatch.cli import doctor as doctor_module
from funnelwatch.cli.doctor import check_folder, check_programs, check_python, doctor
from funnelwatch.cli.doctor_lag import check_lag
from funnelwatch.cli.doctor_pipeline import check_pipeline
from funnelwatch.cli.doctor_services import check_database, check_kafka, check_redis, check_registry
from funnelwatch.deploy.embedded.kafka_client import admin
from funnelwatch.schemas.redaction import revealed
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.heartbeats import HeartbeatStore
from funnelwatch.sinks.timescale.migrations import migrate
from tests.filling import MINUTE_MS, count_in

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from funnelwatch.schemas.settings import Settings
    from tests.stack import Servers

NOWHERE = "127.0.0.1:9"


def environ(settings: Settings, **more: str) -> dict[str, str]:
    """The environment of a command that is to have these settings."""
    names = ["data_dir", "kafka_bootstrap_servers", "timescale_url", "redis_url", "events_topic", "consumer_group"]
    wanted = {f"FUNNELWATCH_{name.upper()}" for name in [*names, "kafka_config"]}
    return {name: value for name, value in settings.environment().items() if name in wanted} | more


def test_with_everything_there_nothing_has_failed(settings: Settings) -> None:
    """Exit code 0; each thing has one line, and what a worker would make is a warning."""
    done = CliRunner(env=environ(settings)).invoke(doctor)
    assert done.exit_code == 0
    assert "FAILED" not in done.stdout
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("ok") and " kafka " in line]
    assert f"{settings.events_topic} does not exist. A worker makes it" in done.stdout
    assert "the database has no tables of funnelwatch" in done.stdout


def test_with_nothing_there_each_failure_says_what_to_do(tmp_path: Path) -> None:
    """Exit code 1, in JSON too; every failed service names its variable."""
    env = {
        "FUNNELWATCH_DATA_DIR": str(tmp_path),
        "FUNNELWATCH_KAFKA_BOOTSTRAP_SERVERS": NOWHERE,
        "FUNNELWATCH_TIMESCALE_URL": f"postgresql://{NOWHERE}/none",
        "FUNNELWATCH_REDIS_URL": f"redis://{NOWHERE}/0",
        "FUNNELWATCH_SCHEMA_REGISTRY_URL": f"http://{NOWHERE}",
    }
    done = CliRunner(env=env).invoke(doctor, ["--json"])
    assert done.exit_code == 1
    failed = {one["name"]: one["advice"] for one in json.loads(done.stdout) if one["level"] == "FAILED"}
    assert list(failed) == ["kafka", "schema registry", "database", "redis"]
    assert all("FUNNELWATCH_" in advice for advice in failed.values())


def test_a_setting_that_cannot_be_read_is_a_finding() -> None:
    """The variable is named."""
    done = CliRunner(env={"FUNNELWATCH_WINDOW_S": "soon"}).invoke(doctor)
    assert done.exit_code == 1
    assert "FAILED  settings        FUNNELWATCH_WINDOW_S: " in done.stdout


def test_topics_and_the_lag_of_the_workers_are_told(settings: Settings) -> None:
    """Three events are there and one has been read: two behind, by the group that counts events, and no failure yet."""
    client = admin(settings.kafka())
    for future in client.create_topics([NewTopic(settings.events_topic, 1, 1)]).values():
        future.result(60)
    producer = Producer(settings.kafka())
    for _ in range(3):
        producer.produce(settings.events_topic, b"event")
        assert producer.flush(60) == 0  # each in a batch of its own: Tansu tells the last batch's first offset
    assert f"{settings.events_topic}: 1 partition(s)" in [finding.message for finding in check_kafka(settings)]
    group = f"{settings.consumer_group}-events"
    (unread,) = check_lag(settings)
    assert unread.message.startswith(f"{group} has not read {settings.events_topic} yet: 3 record(s) wait, the oldest")
    consumer = Consumer(settings.kafka(**{"group.id": group}))
    consumer.commit(offsets=[TopicPartition(settings.events_topic, 0, 1)], asynchronous=False)
    consumer.close()
    (behind,) = check_lag(settings)
    assert behind.message.startswith(f"{group} is 2 record(s) behind on {settings.events_topic}")


def test_a_lag_that_cannot_be_told_is_unknown_and_not_ok(settings: Settings) -> None:
    """No broker answers: a word of its own, for each group."""
    away = settings.model_copy(update={"kafka_bootstrap_servers": NOWHERE})
    found = list(check_lag(away, lambda _: None))
    assert [one.level for one in found] == ["unknown"] * 3
    assert f"the lag of {settings.consumer_group}-events on {settings.events_topic} is not known" in found[0].message


def test_counts_without_a_live_worker_are_a_failure(settings: Settings) -> None:
    """None has ever run; then tables and counts, and still none; its windows are old as well."""
    (none_yet,) = check_pipeline(settings)
    assert (none_yet.level, none_yet.message) == ("warning", "no worker has run on this database yet")
    database = Database(settings.timescale_url)
    migrate(database, settings.window_ms)
    (no_counts,) = check_pipeline(settings)
    assert (no_counts.level, no_counts.message) == ("warning", "no worker has run yet")
    long_ago = 1_700_000_000_000 // MINUTE_MS * MINUTE_MS
    count_in(database, {(long_ago, "A", "iOS", "", ""): (10, 9, 1)}, closed_through=long_ago + MINUTE_MS)
    HeartbeatStore(database).beat("w", settings.events_topic, "host", 7, assigned=4, error="it is STOPPED")
    worker, windows = check_pipeline(settings)
    assert (worker.level, worker.message) == ("FAILED", "worker host (7) reports: it is STOPPED")
    assert (windows.level, "Windows are complete only up to 2023-11-14" in windows.message) == ("FAILED", True)
    HeartbeatStore(database).end("w")
    worker, _ = check_pipeline(settings)
    assert (worker.level, worker.message) == ("FAILED", "no worker is alive: host (7) ended 0 s ago")
    with database.transaction() as cursor:
        cursor.execute("DROP TABLE worker_heartbeats")
    (unknown,) = check_pipeline(settings)
    assert unknown.level == "unknown"
    database.close()


def test_the_tables_are_looked_for(settings: Settings) -> None:
    """Once the table of the progress is there, the warning is gone."""
    assert [finding.level for finding in check_database(settings)] == ["ok", "warning"]
    with psycopg.connect(revealed(settings.timescale_url)) as session:
        session.execute("CREATE TABLE stream_progress (topic text)")
    findings = list(check_database(settings))
    assert [finding.level for finding in findings] == ["ok", "ok"]
    assert findings[0].message.startswith("PostgreSQL ")


def test_a_redis_that_throws_keys_away_is_a_warning(settings: Settings, stack: Servers) -> None:
    """A memory limit with an evicting policy would lose windows."""
    with redis.Redis.from_url(stack.redis_url) as client:
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            (finding,) = check_redis(settings)
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")
    assert (finding.level, "allkeys-lru" in finding.message) == ("warning", True)
    (finding,) = check_redis(settings)
    assert finding.level == "ok"


def test_no_schema_registry_is_fine(settings: Settings) -> None:
    """It is an option: neither healthy nor broken."""
    (finding,) = check_registry(settings)
    assert finding.level == "unused"


def test_an_old_python_has_failed() -> None:
    """3.10 is too old."""
    assert check_python((3, 10)).level == "FAILED"
    assert check_python((3, 11)).level == "ok"


def test_a_data_folder_that_cannot_be_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where a folder should be fails; little room is a warning; a folder that is yet to be made is fine."""
    (tmp_path / "file").write_text("")
    assert [finding.level for finding in check_folder(tmp_path / "file" / "data")] == ["FAILED"]
    assert [finding.level for finding in check_folder(tmp_path / "new" / "data")] == ["ok"]
    monkeypatch.setattr(doctor_module, "LITTLE_DISK_BYTES", 2**60)
    assert [finding.level for finding in check_folder(tmp_path)] == ["warning"]


def test_missing_java_is_a_warning_that_says_what_happens(tmp_path: Path) -> None:
    """The embedded stack works without it, on Tansu."""
    (finding,) = check_programs({"PATH": ""}, tmp_path)
    assert finding.level == "warning"
    assert "Tansu" in finding.message
