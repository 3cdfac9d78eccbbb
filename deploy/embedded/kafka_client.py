"""Asking a Kafka whether it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

if TYPE_CHECKING:
    from collections.abc import Mapping


def admin(config: Mapping[str, Any]) -> AdminClient:
    """An admin client that keeps quiet about brokers that are not there yet."""
    quiet: dict[str, Any] = {"log_level": 0, "error_cb": lambda error: None}
    return AdminClient({**quiet, **config})


def brokers(config: Mapping[str, Any], timeout_s: float) -> int:
    """The number of brokers in the cluster; 0 if no broker answers within ``timeout_s``."""
    try:
        return len(admin(config).list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return 0
