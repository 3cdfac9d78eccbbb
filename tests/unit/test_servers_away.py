"""An outage as a process sees it: one log line for all that wait, ages that grow, and nothing unknown shown as 0."""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from funnelwatch.producers.kafka.log_throttle import LogThrottle
from funnelwatch.sinks.alerts import metrics as notifier_metrics
from funnelwatch.sinks.servers import DATABASE, KAFKA, REDIS, Servers, server_of
from funnelwatch.stream.detector.publisher import AlertPublisher
from funnelwatch.stream.worker import metrics
from funnelwatch.stream.worker.ages import Ages
from funnelwatch.stream.worker.health import Health, Standstill

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
KAFKA_AWAY = KafkaException(KafkaError(KafkaError._TRANSPORT, "no broker"))
DATABASE_AWAY = psycopg.OperationalError("connection failed\n\tIs the server running?")


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture
def seen(clock: Clock) -> Servers:
    """Servers by that clock."""
    return Servers(clock)


def test_all_that_wait_for_a_server_log_one_line_in_half_a_minute(
    seen: Servers, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Four tasks retry ten times a second for two minutes: five lines while it lasts, and one when all work again."""
    tasks = ("closing", "alerting", "Kafka: dead letters", "starting partitions")
    for tenth in range(1200):
        clock.now = 1_000 + tenth / 10
        for task in tasks:
            seen.failed(task, KAFKA_AWAY)
    for task in tasks:
        seen.done(task)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[1].split(",")[0] for line in lines] == [" waiting"] * 4 + [" works again"]
    assert "(alerting, closing, dead letters, starting partitions)" in lines[1]
    assert lines[-1] == "Kafka: works again, after 119.9 s"
    assert seen.waiting() == []


def test_two_servers_that_are_away_are_two_outages(
    seen: Servers, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each has its line, of one line each, and its end; the error tells which server it is."""
    seen.failed("closing", KAFKA_AWAY)
    seen.failed("closing", DATABASE_AWAY)
    assert [line.split(":")[0] for line in caplog.messages] == [KAFKA, DATABASE]
    assert all("\n" not in line for line in caplog.messages)
    clock.now += 7
    assert [line.split(" since")[0] for line in seen.waiting()] == [f"waits for {KAFKA}", f"waits for {DATABASE}"]
    seen.done("closing")
    assert seen.waiting() == []


def test_what_is_waited_for_has_no_password(seen: Servers, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in the log nor in the worker's own sentence, which heartbeat and pages repeat."""
    seen.failed("closing", psycopg.OperationalError('connection to "postgresql://u:hunter2secret@db/x" failed'))
    assert seen.waiting()
    assert "hunter2secret" not in " ".join([*caplog.messages, *seen.waiting()])


def test_a_task_that_another_worker_does_by_now_is_not_waited_for_for_ever(seen: Servers, clock: Clock) -> None:
    """It is forgotten when it has not been tried for a while."""
    seen.failed("closing", KAFKA_AWAY)
    clock.now += 60
    assert seen.waiting()
    clock.now += 60
    assert seen.waiting() == []
    seen.failed("closing", KAFKA_AWAY)
    assert seen.waiting()[0].startswith("waits for Kafka since 0 s (closing)")


def test_a_server_is_reachable_only_for_as_long_as_it_answers(seen: Servers, clock: Clock) -> None:
    """Never heard of is not reachable; silence after an answer is told, in words."""
    assert not seen.reachable(KAFKA)
    assert math.isnan(seen.silent_s(KAFKA))
    seen.answered(KAFKA)
    assert seen.reachable(KAFKA)
    assert seen.away() == []
    clock.now += 43
    assert not seen.reachable(KAFKA)
    assert seen.away() == [KAFKA]
    assert seen.waiting() == ["Kafka has not answered for 43 s"]


def test_an_error_without_a_server_is_named_by_its_task() -> None:
    """As the part before the colon."""
    assert server_of(ConnectionError(), "Server: task") == "Server"
    assert server_of(DATABASE_AWAY, "Kafka: task") == DATABASE


def values(collector: Ages) -> dict[str, float]:
    """What a scrape shows, by name and label."""
    registry = CollectorRegistry()
    registry.register(collector)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def test_ages_grow_during_an_outage_and_the_lag_is_absent(seen: Servers, clock: Clock) -> None:
    """Nothing reports any more; each scrape shows larger ages, and no lag of before."""
    ages = Ages(seen, clock, clock)
    ages.lag = lambda: {0: 7}
    ages.standstill_s = lambda: 0.0
    seen.answered(KAFKA)
    ages.watermark(990_000)
    ages.funnels(960_000, None)
    for what in ("fetch", "flush", "evaluate", "close"):
        ages.succeeded(what)
    before = values(ages)
    assert before["funnelwatch_lag_records 0"] == 7
    assert before["funnelwatch_kafka_reachable"] == 1
    assert before["funnelwatch_watermark_age_seconds"] == 10
    clock.now += 300
    after = values(ages)
    assert "funnelwatch_lag_records 0" not in after
    assert after["funnelwatch_kafka_reachable"] == 0
    assert after["funnelwatch_watermark_age_seconds"] == 310
    assert after["funnelwatch_closed_through_age_seconds"] == 340
    assert after["funnelwatch_last_contact_age_seconds Kafka"] == 300
    for what in ("fetch", "flush", "evaluate", "close"):
        assert after[f"funnelwatch_last_success_age_seconds {what}"] == 300


def test_what_was_never_known_is_nan_and_not_zero(seen: Servers, clock: Clock) -> None:
    """A worker that has just started knows nothing, and says that."""
    found = values(Ages(seen, clock, clock))
    for name in ("watermark_seconds", "watermark_age_seconds", "standstill_seconds", "closed_through_age_seconds"):
        assert math.isnan(found[f"funnelwatch_{name}"]), name
    for server in (KAFKA, DATABASE, REDIS):
        assert math.isnan(found[f"funnelwatch_last_contact_age_seconds {server}"])


def test_a_worker_that_does_not_close_has_no_age_of_closing(seen: Servers, clock: Clock) -> None:
    """Otherwise the age of one that closed once would grow for ever."""
    ages = Ages(seen, clock, clock)
    ages.watermark(990_000)
    ages.succeeded("close")
    ages.closes_no_more()
    found = values(ages)
    assert math.isnan(found["funnelwatch_watermark_age_seconds"])
    assert "funnelwatch_last_success_age_seconds close" not in found


def test_the_share_of_time_that_counting_is_busy_grows_while_it_still_counts(seen: Servers, clock: Clock) -> None:
    """A flush that never ends shows at once, not after its end."""
    ages = Ages(seen, clock, clock)
    ages.busy(begins=True)
    clock.now += 5
    assert values(ages)["funnelwatch_counting_busy_seconds_total"] == 5
    ages.busy(begins=False)
    clock.now += 5
    assert values(ages)["funnelwatch_counting_busy_seconds_total"] == 5


def test_a_standstill_is_unknown_while_nobody_can_say() -> None:
    """Before the first look and while Kafka is away it is NaN; it grows between two looks."""
    still = Standstill(60.0)
    assert math.isnan(still.longest_at(5))
    still.update(10, {("events", 0): (1, 2)})
    assert still.longest_at(40) == 30
    still.unknown()
    assert math.isnan(still.longest_at(50))
    still.update(60, {})
    assert still.longest_at(61) == 0


def test_waiting_for_a_server_that_is_away_is_no_reason_to_restart_a_worker(clock: Clock) -> None:
    """Waiting for one that answers is; a partition that cannot go on is in any case."""
    health = Health(60.0, 120.0, 3.0, clock)
    health.begin("counting")
    health.fetching()
    clock.now += 100
    assert health.problem([]) == "counting has waited for 100 s"
    assert health.problem([], away=True) is None
    assert health.problem(["partition 3: STOPPED"], away=True) == "partition 3: STOPPED"


def lines(throttle: LogThrottle, clock: Clock, seconds: int) -> list[str]:
    """What is logged of clients that retry for so long."""
    logged = []
    for tenth in range(seconds * 10):
        clock.now += 0.1
        for name, message, arguments in (
            ("aiokafka.client", "Unable connect to node with id %s: %s", (tenth, "rejected")),
            ("aiokafka.conn", "Connection at %s closed", (tenth,)),
            ("aiokafka", "Group Coordinator Request failed: %s", ("not ready",)),
            ("funnelwatch.stream.librdkafka", "%s [%s] %s", ("FAIL", "intake", f"Connect failed ({tenth})")),
            ("funnelwatch.stream.intake.fetcher", "assigned: %s", ("FAIL",)),
        ):
            record = logging.LogRecord(name, logging.ERROR, "", 0, message, arguments, None)
            if throttle.filter(record):
                logged.append(f"{record.name} {record.getMessage()}")
    return logged


def test_clients_that_retry_log_one_line_in_half_a_minute(clock: Clock) -> None:
    """Whatever their library; it says how many there were, and other loggers are left alone."""
    found = lines(LogThrottle("aiokafka", "funnelwatch.stream.librdkafka", monotonic=clock), clock, 60)
    noise = [line for line in found if not line.startswith("funnelwatch.stream.intake.fetcher")]
    assert len(noise) == 2
    assert re.search(r"\(and 1[12]\d\d similar lines\)", noise[1])
    assert len(found) - len(noise) == 600


def test_what_a_client_says_of_something_else_is_not_hidden_by_the_noise(clock: Clock) -> None:
    """A rejected login has a line of its own."""
    throttle = LogThrottle("aiokafka", monotonic=clock)
    lines(throttle, clock, 1)
    rejected = logging.LogRecord("aiokafka.conn", logging.ERROR, "", 0, "SaslAuthentication: %s", ("bad",), None)
    assert throttle.filter(rejected)


def test_what_a_route_has_waited_ages_while_the_database_is_away() -> None:
    """The number is unknown, the age goes on; with nothing waiting neither is 0 any more."""
    waiting, oldest = notifier_metrics.WAITING.labels("aging"), notifier_metrics.OLDEST.labels("aging")
    notifier_metrics.note_waiting("aging", 2, 300.0)
    assert waiting._value.get() == 2
    notifier_metrics.note_waiting("aging", None, 0.0)
    assert math.isnan(waiting._value.get())
    assert oldest.collect()[0].samples[0].value >= 300
    notifier_metrics.note_waiting("aging", 0, 0.0)
    assert (waiting._value.get(), oldest.collect()[0].samples[0].value) == (0, 0)
    notifier_metrics.note_waiting("aging", None, 0.0)
    assert math.isnan(oldest.collect()[0].samples[0].value)


class Outbox:
    """Alerts that were saved and not published."""

    waiting = 3

    def outbox(self, funnel: str) -> list[dict[str, Any]]:
        """What is in it."""
        return [{"state": "firing", "reason": "FIRST_DROP", "step": "A", "dimensions": {}, "funnel": funnel}] * 3

    def published(self, alerts: Sequence[dict[str, Any]]) -> None:
        """Take them out."""
        self.waiting -= len(alerts)


def test_the_outbox_shows_what_kafka_has_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three messages while Kafka is away, none once it has acknowledged them."""
    publisher = AlertPublisher.__new__(AlertPublisher)
    outbox = Outbox()
    publisher._alerts = cast("Any", outbox)

    def away(_: object) -> None:
        raise KAFKA_AWAY

    monkeypatch.setattr(publisher, "send", away)
    shown = metrics.OUTBOX.labels("outbox")
    with pytest.raises(KafkaException):
        publisher.publish("outbox")
    assert shown._value.get() == 3
    monkeypatch.setattr(publisher, "send", lambda _: None)
    publisher.publish("outbox")
    assert (shown._value.get(), outbox.waiting) == (0, 0)
