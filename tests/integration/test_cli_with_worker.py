"""What the commands do is taken up by a real worker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from confluent_kafka.admin import AdminClient

from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.progress import ProgressStore
from tests.command import run, succeed_json
from tests.stack import wait_until
from tests.traffic import event, prepared, produce, totals
from tests.worker import Worker, worker

if TYPE_CHECKING:
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

QUICK = {"allowed_disorder_s": 0.5, "idle_timeout_s": 1.0, "window_s": 1}


def quick(settings: Settings) -> Settings:
    """Settings with short times, and tables and topics made."""
    made = prepared(settings.model_copy(update=QUICK))
    database = Database(made.timescale_url)
    migrate(database, made.window_ms)
    database.close()
    return made


def forget_replays(settings: Settings) -> None:
    """As a crash does between producing and remembering."""
    database = Database(settings.timescale_url)
    with database.transaction() as cursor:
        cursor.execute("DELETE FROM replayed_letters")
    database.close()


def wait_counted(settings: Settings, one: Worker) -> None:
    """Wait until one event is counted; what the worker says if it is not."""
    try:
        wait_until(lambda: totals(settings)["accepted"] == 1, "it is counted")
    except TimeoutError as error:
        raise TimeoutError(f"{error}; {totals(settings)}; the worker says:\n{one.text()}") from error


def test_a_replayed_event_is_counted_once_even_if_it_is_replayed_again(settings: Settings, tmp_path: Path) -> None:
    """An unknown step is rejected, declared, replayed, counted; the rate shows it; a second replay changes nothing."""
    strict = quick(settings)
    produce(strict, [event(step="CAPTCHA", event_id="id-1")])
    with worker(strict) as one:
        wait_until(lambda: totals(strict)["rejected"] == 1 or not one.running, "it is rejected", 120)
        assert one.stop() == 0, one.text()
    path = tmp_path / "funnels.yml"
    path.write_text(json.dumps({"funnels": {"sign_up": ["CAPTCHA"]}}))
    mended = strict.model_copy(update={"funnels_path": path})
    with worker(mended) as one:
        assert succeed_json(mended, "dead-letters", "replay", "--yes")["produced"] == 1
        wait_counted(mended, one)
        forget_replays(mended)
        assert succeed_json(mended, "dead-letters", "replay", "--yes")["produced"] == 1
        wait_until(lambda: totals(mended)["duplicates"] == 1 or not one.running, "it is known again", 120)
        [row] = succeed_json(mended, "rate", "--step", "CAPTCHA", "--since", "10m")["rows"]
        assert one.stop() == 0, one.text()
    assert (row["impressions"], totals(mended)["counted"]) == (1, 1)


def test_a_worker_goes_on_after_its_progress_was_of_another_topic(settings: Settings) -> None:
    """It stops the partitions and names the command; after that command it counts the log, by itself."""
    fast = quick(settings)
    produce(fast, [event() for _ in range(20)])
    partitions = len(AdminClient(fast.kafka()).list_topics(timeout=60).topics[fast.events_topic].partitions)
    database = Database(fast.timescale_url)
    with database.transaction() as cursor:
        cursor.execute(
            "INSERT INTO stream_progress (topic, topic_id, partition, next_offset) "
            "SELECT %s, 'an earlier topic', n, 5000 FROM generate_series(0, %s) AS n",
            [fast.events_topic, partitions - 1],
        )
    with worker(fast) as one:
        wait_until(lambda: "rebuild progress --topic" in one.text() or not one.running, "it names the command", 120)
        assert totals(fast)["counted"] == 0
        wait_until(lambda: one.get("/healthz")[0] == 503, "it says that it is stopped")
        assert run(fast, "rebuild", "progress", "--yes").exit_code == 0
        wait_until(lambda: totals(fast)["counted"] == 20 or not one.running, "the log is counted", 120)
        wait_until(lambda: one.get("/healthz")[0] == 200, "it says that all is well")
        produce(fast, [event()])
        wait_until(lambda: totals(fast)["counted"] == 21 or not one.running, "and what comes", 120)
        assert one.stop() == 0, one.text()
    assert sum(offset for _, offset in ProgressStore(database).read(fast.events_topic).values()) == 21
    database.close()
