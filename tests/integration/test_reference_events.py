"""The reference reads the raw topic: both framings, Kafka's timestamps, without what was rejected or sent twice."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from funnelwatch.schemas.codec import Encoder, Registry
from tests.fake_registry import fake_registry
from tests.reference.events import Avro, accepted_events, records_of
from tests.reference.sessions import Funnel, count_sessions
from tests.traffic import ENCODE, event, prepared

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

HORIZON_MS = 60_000
STEPS = ("INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE")
AHEAD_MS = 600_000


def test_what_is_read_is_decoded_and_counted(settings: Settings) -> None:
    """A session in two framings, a record that was rejected, a duplicate, a repetition beyond the horizon."""
    settings = prepared(settings)
    now = time.time_ns() // 1_000_000
    begin = now - 3_600_000
    shown = event(event_id="shown", sign_up_session_id="anna", ts=begin, contexts={"country": "Österreich"})
    made = shown | {"event_id": "made", "phase": "POST_VERIFICATION", "status": "SUCCESS", "duration_ms": 7}
    with fake_registry() as registry:
        confluent = Encoder("FunnelEvent", Registry(registry.url))
        rows = [
            (0, ENCODE(shown)),
            (1_000, confluent(made)),
            (2_000, b"{no event"),
            (3_000, ENCODE(made)),
            (HORIZON_MS + 3_001, ENCODE(made)),
            (now + AHEAD_MS - begin, ENCODE(made | {"event_id": "ahead"})),
        ]
        producer = Producer(settings.kafka())
        for after, value in rows:
            producer.produce(settings.events_topic, value, b"anna", 2, timestamp=begin + after)
        producer.produce(settings.events_topic, None, b"empty", 1, timestamp=begin)
        assert producer.flush(60) == 0

        records = records_of(settings.kafka(), settings.events_topic)
        events = accepted_events(records, Avro(registry.url), {(1, 0), (2, 2)}, HORIZON_MS)

    assert [(one.partition, one.offset) for one in records] == [(1, 0), *((2, offset) for offset in range(6))]
    assert [record.value for record in records] == [b"", *(value for _, value in rows)]
    # A timestamp ahead of the clock is now.
    assert records[-1].log_time < now + AHEAD_MS
    assert [(one.event_id, one.log_time - begin) for one in events[:-1]] == [
        ("shown", 0),
        ("made", 1_000),
        ("made", HORIZON_MS + 3_001),
    ]
    assert {(one.session_id, one.ts, one.contexts["country"]) for one in events} == {("anna", begin, "Österreich")}
    assert [one.status for one in events] == [None, *["SUCCESS"] * 3]
    window = begin // 60_000 * 60_000
    counts = count_sessions(events, {"sign_up": Funnel(STEPS, ("os", "country"))}, 60_000)
    assert counts == {
        (window, "sign_up", STEPS[0], (("country", "Österreich"), ("os", "iOS"))): (1, 1, 1, 1),
    }
