"""The limit: ``Consumer.consume`` and nothing else, tuned like funnelwatch's intake. It counts, but writes nothing."""

from __future__ import annotations

import gc
import uuid

from confluent_kafka import Consumer
from work import TUNED, begin, end, task


def main() -> None:
    """Read the whole topic."""
    given = task()
    gc.set_threshold(200_000, 20, 20)
    consumer = Consumer(
        {"bootstrap.servers": given.kafka, **given.login, "group.id": f"{given.group}-{uuid.uuid4()}", **TUNED}
    )
    consumer.subscribe([given.topic])
    left = given.events
    while left:
        messages = consumer.consume(2_000, 0.05)
        if messages:
            begin()
        left -= sum(message.error() is None for message in messages)
    end()
    consumer.close()


main()
