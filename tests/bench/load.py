"""Events at an even rate, dated when they are produced: for other benches, which start as many of it as are needed.

It takes JSON as its one argument: ``properties`` of the producer, ``topic``, ``rate`` (events/s), and goes on until its
standard input is closed; then it prints how many events Kafka has taken. After a stall it catches up.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from io import BytesIO
from itertools import cycle

from confluent_kafka import Producer
from fastavro import schemaless_writer

from funnelwatch.schemas.codec import SINGLE_OBJECT
from funnelwatch.schemas.files import SCHEMAS, single_object_fingerprint
from tests.bench.speed.topic import events

ID = 36
EVERY_S = 0.01
TEMPLATES = 5_000
ONE_MAKES = 150_000
"""Events/s that one process makes with some ease; it tops out near twice that on a core of its own."""


def processes_for(rate: int) -> int:
    """How many processes to share a rate among."""
    return -(-rate // ONE_MAKES)


def as_long(number: int) -> bytes:
    """Avro's encoding of a long; of the times of this century it has always six bytes."""
    body = BytesIO()
    schemaless_writer(body, {"type": "long"}, number)
    return body.getvalue()


def templates(count: int) -> list[tuple[bytes, bytes, bytes]]:
    """Encoded events without what makes each its own: what comes before its id, then before its ts, and after that."""
    head = SINGLE_OBJECT + single_object_fingerprint(SCHEMAS["FunnelEvent"])
    made = []
    now = time.time_ns() // 1_000_000
    ts = as_long(now)
    for event in events(count, 100, 1, 7):
        body = BytesIO()
        schemaless_writer(body, SCHEMAS["FunnelEvent"], event | {"ts": now})
        value = body.getvalue()
        between, _, after = value[1 + ID :].partition(ts)
        made.append((head + value[:1], between, after))
    return made


def main() -> None:
    """Produce."""
    given = json.loads(sys.argv[1])
    lost = 0

    def delivered(error: object, _: object) -> None:
        nonlocal lost
        lost += error is not None

    producer = Producer(
        given["properties"]
        | {
            "linger.ms": 5,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
            "delivery.report.only.error": True,
            "on_delivery": delivered,
        }
    )
    chance, rate, topic, produce = random.Random(), given["rate"], given["topic"], producer.produce
    ways = cycle(templates(TEMPLATES))
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    began, sent = time.monotonic(), 0
    while not over.is_set():
        passed = time.monotonic() - began
        # Never more than a tenth of a second at once: after a stall events are dated when they are produced as well.
        due = min(int(passed * rate) - sent, max(1, rate // 10))
        ts, unique = as_long(time.time_ns() // 1_000_000), b"%028x" % chance.getrandbits(112)
        try:
            for number in range(due):
                before, between, after = next(ways)
                key = b"%s%08x" % (unique, number)
                produce(topic, before + key + between + ts + after, key)
                sent += 1
        except BufferError:
            producer.poll(0.1)
        producer.poll(0)
        time.sleep(EVERY_S)
    left = producer.flush(30)
    print(sent - lost - left)


if __name__ == "__main__":
    main()
