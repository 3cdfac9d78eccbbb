"""The id of an alert: the same for every replay of the same incident. Pure."""

from __future__ import annotations

import hashlib
import json


def series_key(rule: str, funnel: str, step: str, dimensions: dict[str, str]) -> str:
    """A stable text for a rule and series."""
    return json.dumps([rule, funnel, step, sorted(dimensions.items())], separators=(",", ":"), ensure_ascii=False)


def alert_id(rule: str, funnel: str, step: str, dimensions: dict[str, str], started_at: int) -> str:
    """The same for every replay of the same incident: a digest of what it is about and when it began."""
    text = f"{series_key(rule, funnel, step, dimensions)}@{started_at}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
