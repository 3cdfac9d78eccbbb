"""Finds out whether Kafka rejects the login; librdkafka's calls report that and an outage as the same error."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

from funnelwatch.schemas.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping

REJECTED = (KafkaError._AUTHENTICATION, KafkaError._SSL)  # noqa: SLF001 - they have no other name
AWAY = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001
ASK_S = 3.0
ADVICE = "Check user, password and certificates in FUNNELWATCH_KAFKA_CONFIG"


def kafka_rejection(config: Mapping[str, Any], timeout_s: float = ASK_S) -> str | None:
    """Connect once; returns Kafka's reason for rejecting this client, None where it does not.

    Args:
        config: properties of librdkafka.
        timeout_s: time limit, s; shorter where no broker answers.
    """
    errors: list[KafkaError] = []
    quiet: dict[str, Any] = {"log_level": 0, "error_cb": errors.append}
    client = AdminClient({**config, **quiet})
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        client.poll(0.05)
        for error in errors:
            if error.code() in REJECTED:
                # "sasl_ssl://host:9092/bootstrap: REASON (after 122ms in state AUTH_REQ)"
                return redacted(error.str().split(": ", 1)[-1].split(" (after ")[0])
        if any(error.code() == AWAY for error in errors):
            return None
    return None
