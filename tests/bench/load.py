"""Events at an even rate, as fast as one process can produce them: for other benches, which start it.

It takes JSON as its one argument: ``properties`` of the producer, ``topic``, ``rate`` (events/s), ``seconds``.
"""

from __future__ import annotations

import json
import random
import sys
import time
from io import BytesIO
from itertools import cycle

from confluent_kafka import Producer
from fastavro import schemaless_writer

from schemas.codec import SINGLE_OBJECT
from schemas.files import SCHEMAS, single_object_fingerprint
from tests.bench.speed.topic import events

ID = 36
EVERY_S = 0.01


def parts(count: int) -> list[tuple[bytes, bytes]]:
    """Encoded events of now without their ids: what comes before an id and after it."""
    head = SINGLE_OBJECT + single_object_fingerprint(SCHEMAS["FunnelEvent"])
    made = []
    now = time.time_ns() // 1_000_000
    for event in events(count, 100, 1, 7):
        body = BytesIO()
        schemaless_writer(body, SCHEMAS["FunnelEvent"], event | {"ts": now})
        value = body.getvalue()
        made.append((head + value[:1], value[1 + ID :]))
    return made


def main() -> None:
    """Produce."""
    given = json.loads(sys.argv[1])
    producer = Producer(
        given["properties"] | {"linger.ms": 5, "compression.type": "lz4", "queue.buffering.max.messages": 1_000_000}
    )
    chance, rate = random.Random(), given["rate"]
    began, sent, templates_of = time.monotonic(), 0, -1
    ways = cycle(parts(500))
    while (passed := time.monotonic() - began) < given["seconds"]:
        if int(passed) != templates_of:
            templates_of, ways = int(passed), cycle(parts(500))
        for _ in range(int(passed * rate) - sent):
            before, after = next(ways)
            unique = b"%036x" % chance.getrandbits(128)
            try:
                producer.produce(given["topic"], before + unique + after, unique)
            except BufferError:
                producer.poll(0.1)
                break
            sent += 1
        producer.poll(0)
        time.sleep(EVERY_S)
    producer.flush(30)
    print(sent)


if __name__ == "__main__":
    main()
