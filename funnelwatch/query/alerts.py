"""Alerts as programs read them: the JSON of the command line and of the query API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.times import iso

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMES = ("window_start", "window_end", "started_at")


def with_iso_times(alert: Mapping[str, Any]) -> dict[str, Any]:
    """The alert with its times as ISO 8601 UTC instead of milliseconds."""
    return {name: iso(value) if name in TIMES else value for name, value in alert.items()}
