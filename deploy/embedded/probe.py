"""Probes a service: whether it answers, and the error if it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import redis
from confluent_kafka import KafkaException

from funnelwatch.deploy.embedded.kafka_client import admin
from funnelwatch.schemas.redaction import error_text
from funnelwatch.sinks.redis.client import connect, explain

if TYPE_CHECKING:
    from collections.abc import Mapping


def probe(service: str, url: str, kafka_config: Mapping[str, Any], timeout_s: float) -> str | None:
    """Error of the service ("kafka", "postgres", "redis") at that address; None: it answers."""
    try:
        if service == "kafka":
            if not admin({"bootstrap.servers": url, **kafka_config}).list_topics(timeout=timeout_s).brokers:
                return "its metadata has no brokers"
        elif service == "postgres":
            with psycopg.connect(url, connect_timeout=max(2, round(timeout_s))) as session:
                session.execute("SELECT 1")
        else:
            with connect(url, timeout_s=timeout_s, connect_timeout_s=timeout_s) as client:
                client.ping()
    except KafkaException as error:
        return f"no broker answered within {timeout_s:.0f} s ({error.args[0].str()})"
    except (redis.RedisError, OSError) as error:
        return explain(error)
    except (psycopg.Error, ValueError) as error:
        return error_text(error)
    return None
