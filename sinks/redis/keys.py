"""Every key that funnelwatch has in Redis.

| key | type | holds |
|---|---|---|
| ``PREFIX:epoch`` | string | says that the copy is whole; a server that lost its data has none, and is rebuilt |
| ``PREFIX:repairs`` | string | how often counts were repaired; totals of before a repair are refused |
| ``PREFIX:counts:FUNNEL:WINDOW`` | hash | the tallies of one window, WINDOW its start in ms |

A field of the hash is the series and the count's name, JSON, so that no value of a dimension can be mistaken for
another; its value is the count.
"""

from __future__ import annotations

import json
from functools import lru_cache

from stream.model import Series

TALLY_FIELDS = ("impressions", "successes", "failures", "cohort_successes", "cohort_failures")


def epoch_key(prefix: str) -> str:
    """The key that says that the copy is whole."""
    return f"{prefix}:epoch"


def repairs_key(prefix: str) -> str:
    """The key that says how often counts were repaired."""
    return f"{prefix}:repairs"


def counts_key(prefix: str, funnel: str, window_ms: int) -> str:
    """The key of one window of one funnel."""
    return f"{prefix}:counts:{funnel}:{window_ms}"


def counts_pattern(prefix: str) -> str:
    """A pattern that matches every window of every funnel."""
    return f"{prefix}:counts:*"


@lru_cache(maxsize=50_000)
def field_names(dimensions: tuple[str, str, str, str]) -> tuple[str, ...]:
    """The field of each count of one series: of its step, os, browser and app version."""
    return tuple(json.dumps([*dimensions, name], separators=(",", ":")) for name in TALLY_FIELDS)


def parse_field(funnel: str, field: str) -> tuple[Series, str]:
    """The series and the count's name of a field."""
    step, os, browser, app_version, name = json.loads(field)
    return Series(funnel, step, os, browser, app_version), name
