"""Counters and timers, from the app through Kafka and workers to the database and the command line."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from funnelwatch import FunnelProducer
from funnelwatch.alert_rules.watchdog import is_heartbeat
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.codec import Decoder
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.materializing import materialize
from funnelwatch.sinks.timescale.metric_counts import MetricStore
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.repairs import RepairStore
from funnelwatch.sinks.timescale.retention import Retention, drop_expired
from tests.command import run, succeed_json
from tests.filling import keep_for
from tests.repeating import repeating
from tests.stack import wait_until
from tests.traffic import everything, prepared, slot_of
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

QUICK = {"session_timeout_s": 2.0, "window_s": 10, "metric_max_series": 6, "metric_max_names": 3}


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings with short times and narrow bounds, and the topics made."""
    return prepared(settings.model_copy(update=QUICK))


@pytest.fixture
def database(quick: Settings) -> Iterator[Database]:
    """The test's own connection."""
    with closing(Database(quick.timescale_url)) as database:
        migrate(database, quick.window_ms)
        yield database


def samples(count: int, begin: int) -> list[dict[str, Any]]:
    """A counter and a timer in several series, within two minutes."""
    chance = random.Random(7)
    made = []
    for number in range(count):
        timer = chance.random() < 0.5
        made.append(
            {
                "event_id": f"m{number}",
                "name": "sms_delivery" if timer else "sms_sent",
                "kind": "TIMER" if timer else "COUNTER",
                "value": round(chance.lognormvariate(6, 1)) if timer else chance.randrange(4),
                "dimensions": {"os": chance.choice(["iOS", "Android"]), "provider": chance.choice(["a", "b", 'it"s'])},
                "ts": begin + chance.randrange(120_000),
            }
        )
    return made


def by_hand(sent: list[dict[str, Any]], window_ms: int) -> tuple[dict[Any, list[int]], Counter[Any]]:
    """An independent group-by: samples and totals, and the slots of timers."""
    counts: dict[Any, list[int]] = {}
    slots: Counter[Any] = Counter()
    for one in sent:
        key = one["ts"] // window_ms * window_ms, one["name"], tuple(sorted(one["dimensions"].items()))
        kept = counts.setdefault(key, [0, 0])
        kept[:] = kept[0] + 1, kept[1] + one["value"]
        if one["kind"] == "TIMER":
            slots[(*key, slot_of(one["value"]))] += 1
    return counts, slots


def stored(database: Database) -> tuple[dict[Any, list[int]], Counter[Any]]:
    """The same from the database."""
    connection = database.connection()
    counts, slots = {}, Counter[Any]()
    for row in connection.execute("SELECT * FROM metrics").fetchall():
        key = int(row["window_start"].timestamp() * 1000), row["name"], tuple(sorted(row["dimensions"].items()))
        counts[key] = [row["samples"], row["total"]]
    for row in connection.execute("SELECT * FROM timers").fetchall():
        key = int(row["window_start"].timestamp() * 1000), row["name"], tuple(sorted(row["dimensions"].items()))
        slots.update({(*key, slot): number for slot, number in enumerate(row["slots"]) if number})
    return counts, slots


def dealt_with(database: Database, topic: str) -> tuple[int, int, int]:
    """Accepted, rejected and duplicate records of a topic."""
    row = database.query("dealt_with", {"topic": topic})[0]
    return row["accepted"], row["rejected"], row["duplicates"]


def test_samples_are_counted_once_though_a_worker_is_killed(quick: Settings, database: Database) -> None:
    """Every window, series and bucket equals an independent group-by, in the database and on the command line."""
    sent = samples(2_000, wall_clock_ms() - 150_000)
    with FunnelProducer(quick) as producer, worker(quick) as one:
        for begin in (0, 1_000):
            for metric in sent[begin : begin + 1_000]:
                assert producer.record(metric)
            assert producer.flush() == 0
            wait_until(
                lambda begin=begin: dealt_with(database, quick.metrics_topic)[0] > begin, "some are counted", 120
            )
            if not begin:
                one.kill()
                one.start()
        for metric in sent[:50]:
            producer.record(metric)
        producer.flush()
        dealt = len(sent), 0, 50
        wait_until(lambda: dealt_with(database, quick.metrics_topic) == dealt or not one.running, f"{dealt}", 120)
        assert one.running, one.text()
    assert stored(database) == by_hand(sent, quick.window_ms)

    shown = succeed_json(quick, "metrics", "sms_sent", "--by", "os", "--since", "1h")["rows"]
    assert {(one["dimensions"]["os"], one["samples"], one["total"]) for one in shown} == {
        (os, len(values), sum(values))
        for os in ("iOS", "Android")
        if (values := [m["value"] for m in sent if m["name"] == "sms_sent" and m["dimensions"]["os"] == os])
    }
    [timer] = succeed_json(quick, "metrics", "sms_delivery", "--where", "os=iOS", "--since", "1h")["rows"]
    values = sorted(m["value"] for m in sent if m["name"] == "sms_delivery" and m["dimensions"]["os"] == "iOS")
    assert timer["samples"] == len(values)
    assert timer["p90_ms"] == pytest.approx(values[int(len(values) * 0.9)], rel=1 / 8)
    assert "sms_delivery" in run(quick, "metrics", "--since", "1h").stdout
    assert run(quick, "metrics", "no_such").exit_code == 1
    assert "os=iOS" in run(quick, "metrics", "--where", "os").output
    # Nothing of this is an event of a funnel: windows can be recounted.
    assert RepairStore(database).snapshot(quick.events_topic, 0, 1).elsewhere_until is None


def test_what_is_wrong_or_too_many_is_a_dead_letter_with_its_reason(quick: Settings, database: Database) -> None:
    """Names and series beyond the bounds, a timer that was a counter, times and bytes that cannot be."""
    with FunnelProducer(quick) as producer, worker(quick):
        for number in range(6):
            producer.counter("sms_sent", provider=str(number))
        for name in ("second", "third"):
            producer.timer(name, 5)
        producer.flush()
        wait_until(lambda: dealt_with(database, quick.metrics_topic)[0] == 8, "all that may be", 120)
        producer.counter("sms_sent", provider="6")
        producer.counter("sms_sent", provider="0")
        producer.timer("sms_sent", 5, provider="0")
        producer.counter("fourth")
        producer.record(name="sms_sent", kind="COUNTER", dimensions={"provider": "0"}, ts=wall_clock_ms() + 3_600_000)
        producer.flush()
        raw = Producer(quick.kafka())
        raw.produce(quick.metrics_topic, b"garbage")
        assert raw.flush(60) == 0
        wait_until(lambda: dealt_with(database, quick.metrics_topic) == (9, 5, 0), "the rest", 120)
    letters = [dict(message.headers()) for message in everything(quick, quick.dead_letters_topic)]
    assert {letter["topic"].decode() for letter in letters} == {quick.metrics_topic}
    assert sorted(letter["reason"].decode() for letter in letters) == [
        "IN_THE_FUTURE",
        "OTHER_KIND",
        "TOO_MANY_NAMES",
        "TOO_MANY_SERIES",
        "UNKNOWN_FRAMING",
    ]
    [detail] = [letter["detail"].decode() for letter in letters if letter["reason"] == b"TOO_MANY_SERIES"]
    assert "sms_sent has 6 combinations of dimensions already" in detail
    assert sum(numbers[0] for numbers in stored(database)[0].values()) == 9


def test_a_counter_that_stops_and_a_timer_that_slows_are_alerts(settings: Settings, tmp_path: Path) -> None:
    """Each is said once by a running worker, for its own series, and resolves; the other provider is not told."""
    rules = tmp_path / "sms.yml"
    rules.write_text(
        "groups: [{name: g, rules: ["
        "{alert: Stopped, kind: threshold, metric: sms_sent, below: 5, over: 4s, by: [provider]},"
        "{alert: Slow, kind: threshold, metric: sms_delivery, value: p90, above: 1000, over: 2s, min_samples: 5}]}]"
    )
    fast = {"window_s": 1, "allowed_disorder_s": 0.2, "rules_path": rules}
    quick = prepared(settings.model_copy(update=fast))
    decode = Decoder("Alert")

    def said() -> list[tuple[str, str, str]]:
        messages = [decode(one.value()) for one in everything(quick, quick.alerts_topic)]
        told = [one for one in messages if not is_heartbeat(one)]
        return sorted((one["rule"], one["dimensions"].get("provider", ""), one["state"]) for one in told)

    def told(*expected: tuple[str, str, str]) -> None:
        wait_until(lambda: len(said()) >= len(expected) or not one.running, f"{expected}", 120, 0.5)
        assert said() == sorted(expected), one.text()

    acme, slow = {"by": 0}, {"ms": 3_000}
    with (
        FunnelProducer(quick) as producer,
        worker(quick) as one,
        repeating(
            lambda: (
                producer.counter("sms_sent", acme["by"], provider="acme"),
                producer.counter("sms_sent", 5, provider="other"),
                producer.timer("sms_delivery", slow["ms"]),
            ),
            every_s=0.2,
        ),
    ):
        told(("Stopped", "acme", "firing"), ("Slow", "", "firing"))
        acme["by"], slow["ms"] = 5, 10
        told(*((*what, state) for what in (("Stopped", "acme"), ("Slow", "")) for state in ("firing", "resolved")))


def test_counters_and_timers_are_kept_as_long_as_windows(quick: Settings, database: Database) -> None:
    """What is older is deleted by workers on plain PostgreSQL; the rest stays."""
    now = wall_clock_ms()
    with database.transaction() as cursor:
        cursor.execute("INSERT INTO metric_series (name, kind, dimensions) VALUES ('sms', 'TIMER', '{}')")
        for days in (0, 40):
            cursor.execute(
                "INSERT INTO metric_counts (window_start, series, samples, total, d5) "
                "VALUES (to_timestamp(%s / 1000.0), 1, 1, 5, 1)",
                [now - days * 86_400_000],
            )
    keep_for(database, Retention(windows=30))
    materialize(database, now)
    drop_expired(database, now)
    [left] = MetricStore(database).read(0, now + 1)
    assert (left.samples, left.total) == (1, 5)
    assert left.quantiles == {0.5: 5, 0.9: 5, 0.99: 5}
    assert database.connection().execute("SELECT count(*) AS n FROM metric_counts").fetchone() == {"n": 1}
