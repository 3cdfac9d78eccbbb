"""The topics of the bench: real events, each in one of the two framings, and the counts that must come of them."""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer

from funnelwatch.schemas.codec import Encoder, Registry
from tests.bench.contenders.work import WINDOW_MS, Key, key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings

STEPS = ("INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE", "INPUT_NAME", "INPUT_PASSWORD")
PLACES = (("iOS", ""), ("Android", ""), ("Desktop", "Chrome"), ("Desktop", "Safari"), ("Desktop", "Firefox"))
JITTER_MS = 5_000
EVENTS_A_SESSION = 8
SINGLE_OBJECT_SHARE = 0.1
"""Of the events, in single-object framing; the others have Confluent's."""


def versions_for(series: int) -> list[str]:
    """As many versions of the app as make about so many series."""
    count = max(1, series // (len(STEPS) * len(PLACES)))
    return [f"5.{number}.0" for number in range(count)]


def events(count: int, series: int, windows: int, seed: int) -> Iterator[dict[str, Any]]:
    """Events of so many windows in about the order in which they happened."""
    chance = random.Random(seed)
    span = windows * WINDOW_MS
    begin = time.time_ns() // 1_000_000 // WINDOW_MS * WINDOW_MS - span - WINDOW_MS
    versions = versions_for(series)
    for number in range(count):
        os, browser = chance.choice(PLACES)
        verified = chance.random() < 0.45
        yield {
            "event_id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            "funnel": "sign_up",
            "sign_up_session_id": _session(number, chance, seed),
            "step": chance.choice(STEPS),
            "os": os,
            "browser": browser,
            "app_version": chance.choice(versions),
            "phase": "POST_VERIFICATION" if verified else "IMPRESSION",
            "status": ("SUCCESS" if chance.random() < 0.8 else "FAILURE") if verified else None,
            "ts": max(begin, begin + span * number // count - chance.randrange(JITTER_MS)),
            "duration_ms": chance.randrange(1_000, 40_000) if verified else None,
            "contexts": {},
        }


def _session(number: int, chance: random.Random, seed: int) -> str:
    """An id of one of the sessions of that moment, each of which has ``EVENTS_A_SESSION`` events or so."""
    at_once = 500
    session = number // (at_once * EVENTS_A_SESSION) * at_once + chance.randrange(at_once)
    return str(uuid.UUID(int=(seed << 64) + session))


def event_bytes(registry_url: str, count: int = 10_000) -> float:
    """Bytes of an event's value on average, before compression, in Confluent's framing; single-object has five more."""
    encode = Encoder("FunnelEvent", Registry(registry_url))
    return sum(len(encode(event)) for event in events(count, series=100, windows=5, seed=1)) / count


def fill(
    settings: Settings, topics: dict[str, int], *, series: int = 100, windows: int = 5, times: int = 1, seed: int = 1
) -> dict[str, dict[Key, int]]:
    """Produce the same events to several topics, to each so many of the first; the counts to be found, by topic.

    Args:
        settings: where Kafka and the schema registry are.
        topics: how many events each is to have.
        series: about so many occur.
        windows: so many they are spread over.
        times: each event is followed by others that differ in their id only, so that it is there so many times: cheaper
            to make.
        seed: for the random numbers.
    """
    assert settings.schema_registry_url
    confluent = Encoder("FunnelEvent", Registry(settings.schema_registry_url))
    single_object = Encoder("FunnelEvent")
    producer = Producer(
        settings.kafka(
            **{
                "linger.ms": 50,
                "compression.type": "lz4",
                "batch.size": 500_000,
                "queue.buffering.max.messages": 500_000,
            }
        )
    )
    chance = random.Random(seed)
    expected: dict[str, Counter[Key]] = {topic: Counter() for topic in topics}
    for number, event in enumerate(events(-(-max(topics.values()) // times), series, windows, seed)):
        encode = single_object if chance.random() < SINGLE_OBJECT_SHARE else confluent
        value, session, counted = encode(event), event["sign_up_session_id"], key(event)
        before, own, after = value.partition(event["event_id"].encode())
        for repeat in range(times):
            one = before + (b"%036x" % chance.getrandbits(128) if repeat else own) + after
            for topic, count in topics.items():
                if number * times + repeat < count:
                    expected[topic][counted] += 1
                    _produce(producer, topic, one, session)
    left = producer.flush(60)
    assert not left, f"Kafka did not take {left} records"
    return {topic: dict(counts) for topic, counts in expected.items()}


def _produce(producer: Producer, topic: str, value: bytes, session: str) -> None:
    while True:
        try:
            producer.produce(topic, value, session)
        except BufferError:
            producer.poll(0.5)
        else:
            return
