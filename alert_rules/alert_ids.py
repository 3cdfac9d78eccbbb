"""The id of an alert: the same for every replay of the same incident. Pure."""

from __future__ import annotations

import hashlib
import json


def series_key(rule: str, funnel: str, step: str, dimensions: dict[str, str]) -> str:
    """A stable text for a rule and series."""
    return json.dumps([rule, funnel, step, sorted(dimensions.items())], separators=(",", ":"), ensure_ascii=False)


def alert_id(rule: str, funnel: str, step: str, dimensions: dict[str, str], started_at: int) -> str:
    """A digest of the series and the begin of an incident: the same for every replay."""
    text = f"{series_key(rule, funnel, step, dimensions)}@{started_at}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
