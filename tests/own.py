"""A database and settings that no other test uses."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

from funnelwatch.schemas.settings import Settings
from tests.stack import drop_database, make_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stack import Servers


@contextlib.contextmanager
def own_database(stack: Servers) -> Iterator[str]:
    """A fresh, empty database for as long as the block runs; its address."""
    name = f"test_{uuid.uuid4().hex}"
    try:
        yield make_database(stack.timescale_url, name, timescaledb=stack.timescaledb)
    finally:
        drop_database(stack.timescale_url, name)


def settings_of(stack: Servers, database_url: str, folder: Path) -> Settings:
    """Settings with topics, consumer group and Redis prefix that no other test uses; nothing exists yet."""
    unique = f"t{uuid.uuid4().hex[:12]}"
    return Settings(
        data_dir=folder,
        kafka_bootstrap_servers=stack.kafka_bootstrap_servers,
        kafka_config=stack.kafka_config,
        timescale_url=database_url,
        redis_url=stack.redis_url,
        redis_prefix=unique,
        events_topic=f"{unique}.events",
        metrics_topic=f"{unique}.metrics",
        windows_topic=f"{unique}.windows",
        alerts_topic=f"{unique}.alerts",
        dead_letters_topic=f"{unique}.dead_letters",
        consumer_group=unique,
        session_timeout_s=6.0,
        # A worker copies the horizon to Redis when it begins; a day of windows of a second takes it seconds.
        cache_horizon_s=3_600.0,
        # A machine that runs many tests at once is slow to answer the first request.
        producer_unreachable_wait_s=20.0,
        web_port=0,
    )
