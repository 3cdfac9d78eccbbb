"""The detect agent and a schema registry that goes away: windows and alerts in Confluent framing."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from funnelwatch.schemas.codec import Decoder, Encoder
from funnelwatch.schemas.counts import ClosedWindow, CountRow, Series
from funnelwatch.schemas.registry import Registry
from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.stream.closing.windows import parts_of
from tests.fake_registry import fake_registry
from tests.stack import wait_until
from tests.traffic import everything, now_ms, prepared
from tests.worker import worker

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

RULE = (
    "groups: [{name: g, rules: [{alert: Low, kind: threshold, below: 0.6, over: 5s, step: VERIFY_SMS_CODE, "
    "min_impressions: 1}]}]\n"
)
SERIES = Series.of("sign_up", "VERIFY_SMS_CODE", os="iOS", app_version="1")
WINDOWS = 30
BAD_FROM = 20


def test_a_registry_that_is_away_pauses_the_detector_and_loses_no_window_and_no_alert(settings: Settings) -> None:
    """Away altogether, then only for writing: it waits and logs so, evaluates every window, publishes the alert."""
    rules = settings.data_dir / "rules"
    rules.mkdir()
    (rules / "low.yml").write_text(RULE)
    with fake_registry() as registry, closing(Database(settings.timescale_url)) as database:
        quick = prepared(
            settings.model_copy(
                update={
                    "schema_registry_url": registry.url,
                    "rules_path": rules,
                    "watchdog_every_s": 0.0,  # only what the windows bring
                    "window_s": 1,
                }
            )
        )
        migrate(database, quick.window_ms)
        last = publish_windows(quick)
        registry.status = 503
        store = AlertStore(database)
        with worker(quick) as one:
            wait_until(
                lambda: re.search(r"schema registry: waiting, .*\(.*closed windows", one.text()),
                "it waits to read",
                120,
            )
            assert store.last_window("sign_up") is None
            registry.down = {"POST"}
            # Windows that come in a second batch are evaluated once the alert of the first one is published.
            wait_until(
                lambda: re.search(r"schema registry: waiting, .*\(.*detect", one.text()), "it waits to publish", 120
            )
            assert store.outbox("sign_up")
            assert everything(quick, quick.alerts_topic) == []
            assert one.running
            registry.status = 200
            wait_until(lambda: not store.outbox("sign_up"), "the alert is published")
            wait_until(lambda: store.last_window("sign_up") == last, "every window is evaluated")
            assert "passed over" not in one.text()
            values = [message.value() for message in everything(quick, quick.alerts_topic)]
            assert {value[:1] for value in values} == {b"\x00"}
            decode = Decoder("Alert", Registry(registry.url))
            messages = {(alert["alert_id"], alert["sequence"]): alert for alert in map(decode, values)}
    assert [(alert["state"], alert["step"]) for alert in messages.values()] == [("firing", "VERIFY_SMS_CODE")]


def publish_windows(settings: Settings) -> int:
    """Put windows on their topic in Confluent framing, the last ones bad; the start of the newest, ms."""
    encode = Encoder("ClosedWindow", Registry(settings.schema_registry_url))
    producer = Producer(settings.kafka(**{"enable.idempotence": True}))
    begin = (now_ms() // 1000 - 2 * WINDOWS) * 1000
    for number in range(WINDOWS):
        tally = CountRow(20, 20 if number < BAD_FROM else 2)
        window = ClosedWindow("sign_up", begin + number * 1000, begin + (number + 1) * 1000, 0, {SERIES: tally})
        for record in parts_of(window):
            value = encode(record)
            assert value[:1] == b"\x00"
            producer.produce(settings.windows_topic, value, window.funnel)
    assert producer.flush(60) == 0
    return begin + (WINDOWS - 1) * 1000
