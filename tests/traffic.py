"""Events for tests, an independent count of them, and what has become of them in the database and the topics."""

from __future__ import annotations

import random
import time
import uuid
from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from funnelwatch.producers.kafka.topics import ensure_topics
from funnelwatch.schemas.codec import Decoder, Encoder
from funnelwatch.schemas.counts import CountRow, Series
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.stream.native.library import ROW

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from funnelwatch.schemas.arrays import Words
    from funnelwatch.schemas.settings import Settings

STEPS = ("INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE", "INPUT_NAME", "INPUT_PASSWORD")
ENCODE = Encoder("FunnelEvent")

Key = tuple[int, Series]


def now_ms() -> int:
    """The wall clock, ms."""
    return time.time_ns() // 1_000_000


def event(**changes: Any) -> dict[str, Any]:
    """A good event of now, with some fields changed."""
    return {
        "event_id": str(uuid.uuid4()),
        "funnel": "sign_up",
        "sign_up_session_id": str(uuid.uuid4()),
        "step": STEPS[0],
        "os": "iOS",
        "browser": "",
        "app_version": "1.0",
        "phase": "IMPRESSION",
        "status": None,
        "ts": now_ms(),
        "duration_ms": None,
        "contexts": {},
    } | changes


def some_events(
    count: int, seed: int = 0, *, begin: int | None = None, spread_ms: int = 30_000
) -> list[dict[str, Any]]:
    """Events of several series, their times in ``[begin, begin + spread_ms)``, in disorder."""
    chance = random.Random(seed)
    begin = now_ms() - spread_ms if begin is None else begin
    made = []
    for _ in range(count):
        phase = chance.choice(["IMPRESSION", "POST_VERIFICATION"])
        verified = phase == "POST_VERIFICATION"
        made.append(
            event(
                step=chance.choice(STEPS),
                os=chance.choice(["iOS", "Android"]),
                browser=chance.choice(["", "Chrome"]),
                phase=phase,
                status=chance.choice(["SUCCESS", "FAILURE"]) if verified else None,
                duration_ms=chance.choice([None, 0, 400, 15_000]) if verified else None,
                ts=begin + chance.randrange(spread_ms),
            )
        )
    return made


def row_of(*counts: int) -> list[int]:
    """The counts of a row, in the order of a ``CountRow``; those that are not given are zero."""
    return list(CountRow(*counts))


def series_by_hand(event: Mapping[str, Any], names: Sequence[str]) -> Series:
    """The series of an event that counts by these dimensions."""
    values = {**event["contexts"], **{name: event[name] for name in ("os", "browser", "app_version")}}
    named = [(name, values[name]) for name in sorted(names) if values.get(name)]
    return Series(event["funnel"], event["step"], tuple(named))


def naive_counts(
    events: Iterable[Mapping[str, Any]], window_ms: int, names: Sequence[str] = DIMENSION_FIELDS
) -> dict[Key, list[int]]:
    """An independent group-by: key to impressions, successes, failures and the two cohort counts."""
    counts: Counter[tuple[Key, int]] = Counter()
    for e in events:
        series = series_by_hand(e, names)
        own = (e["ts"] // window_ms * window_ms, series)
        if e["phase"] == "IMPRESSION":
            counts[own, 0] += 1
            continue
        shown = (e["ts"] - (e["duration_ms"] or 0)) // window_ms * window_ms
        column = 1 if e["status"] == "SUCCESS" else 2
        counts[own, column] += 1
        counts[(shown, series), column + 2] += 1
    return {key: row_of(*(counts[key, column] for column in range(5))) for key, _ in counts}


BORDERS = [*range(8), *(2**power * quarter // 4 for power in range(3, 31) for quarter in range(4, 8))]
"""Where each slot of durations begins: by single milliseconds, then by quarters of each power of two."""


def slot_of(duration: int) -> int:
    """The slot of a duration, looked up."""
    return bisect_right(BORDERS, duration) - 1


def naive_durations(
    events: Iterable[Mapping[str, Any]], window_ms: int, names: Sequence[str] = DIMENSION_FIELDS
) -> dict[tuple[Any, ...], list[int]]:
    """An independent histogram of the durations of successes: key and slot to the number in it."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for e in events:
        if e["phase"] == "IMPRESSION" or e["status"] != "SUCCESS" or e["duration_ms"] is None:
            continue
        window = e["ts"] // window_ms * window_ms
        key = (window, series_by_hand(e, names), slot_of(e["duration_ms"]))
        found.setdefault(key, [0])[0] += 1
    return found


def produce(
    settings: Settings, events: Iterable[Mapping[str, Any] | bytes | None], *, partition: int | None = None
) -> None:
    """Put events, or the raw bytes that stand for them, on the events topic, and wait until Kafka has them."""
    failed: list[KafkaError] = []
    producer = Producer(settings.kafka(**{"enable.idempotence": True, "message.max.bytes": 20_000_000}))
    for one in events:
        value = one if one is None or isinstance(one, bytes) else ENCODE(one)
        key = b"raw" if one is None or isinstance(one, bytes) else one["sign_up_session_id"].encode()
        while True:
            try:
                producer.produce(
                    settings.events_topic,
                    value,
                    key,
                    -1 if partition is None else partition,
                    on_delivery=lambda error, _: failed.append(error) if error else None,
                )
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0
    assert not failed, failed


def prepared(settings: Settings) -> Settings:
    """The same settings, with the topics made."""
    ensure_topics(settings)
    return settings


def everything(settings: Settings, topic: str) -> list[Any]:
    """Every message that a topic has now, partition by partition."""
    # Kafka answers a fetch at the end of a partition only when its time is over.
    own = {"group.id": "not used", "enable.partition.eof": True, "fetch.wait.max.ms": 10}
    consumer = Consumer(settings.kafka(**own, **{"auto.offset.reset": "earliest"}))
    try:
        partitions = list(consumer.list_topics(topic, timeout=60).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        found: list[Any] = []
        ended: set[int | None] = set()  # a partition that goes on growing says so more than once
        while len(ended) < len(partitions):
            # One by one: many at once are waited for, even when the end has come.
            message = consumer.poll(1.0)
            if message is None:
                continue
            error = message.error()
            if error is None:
                found.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise AssertionError(error)
        return found
    finally:
        consumer.close()


def closed_windows(settings: Settings) -> list[dict[str, Any]]:
    """Every record of the windows topic, decoded."""
    decode = Decoder("ClosedWindow")
    return [decode(message.value()) for message in everything(settings, settings.windows_topic)]


def counted(settings: Settings) -> dict[Key, list[int]]:
    """Every row of the counts in the database."""
    database = Database(settings.timescale_url)
    try:
        rows = CountStore(database).read(-(2**45), 2**45)
        return {(window, series): list(tally) for window, series, tally in rows}
    finally:
        database.close()


def totals(settings: Settings) -> dict[str, int]:
    """``counted``, ``accepted``, ``rejected`` and ``duplicates`` in the database."""
    database = Database(settings.timescale_url)
    try:
        return dict(CountStore(database).totals(settings.events_topic))
    finally:
        database.close()


def done(settings: Settings, records: int) -> bool:
    """Whether the database says that this many records have been dealt with."""
    found = totals(settings)
    return found["accepted"] + found["rejected"] + found["duplicates"] >= records


def admin(settings: Settings) -> AdminClient:
    """Kafka's administration."""
    return AdminClient(settings.kafka())


def seen_at(digests: Words, times: Sequence[int]) -> NDArray[np.void]:
    """Rows of records with these ids, at these times of Kafka."""
    rows = np.zeros(digests.size, ROW)
    rows["id"], rows["log_time"] = digests, times
    return rows
