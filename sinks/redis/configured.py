"""The cache that the settings name. Redis is optional: without one, readers read the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.sinks.redis.cache import CountCache

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings


def count_cache(settings: Settings) -> CountCache | None:
    """The cache, which connects at its first use; None: no Redis is configured."""
    if not settings.redis_url:
        return None
    return CountCache(settings.redis_url, settings.redis_prefix, settings.cache_horizon_s, settings.events_topic)
