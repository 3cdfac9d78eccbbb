"""Whole numbers from the numbers of JSON, JavaScript and spreadsheets: ``1500.0``, ``1.5e3``, ``1500.5``."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMER: Final = "TIMER"


def whole(value: Any, *, rounded: bool = False) -> Any:
    """The integer that a number is, or that it rounds to; any other value unchanged, for validation to name.

    Args:
        value: the value.
        rounded: whether a fraction is rounded (half to even); else only 1500.0 and the like become integers.
    """
    if isinstance(value, float) and isfinite(value) and (rounded or value.is_integer()):
        return round(value)
    return value


def whole_text(text: str, *, rounded: bool = False) -> Any:
    """The integer that a text is: digits, or a number that ``whole`` accepts; any other text unchanged."""
    text = text.strip()
    if text.removeprefix("-").isdecimal():
        try:
            return int(text)
        except ValueError:  # more digits than Python converts
            return text
    try:
        number = float(text)
    except ValueError:
        return text
    found = whole(number, rounded=rounded)
    return found if type(found) is int else text


def whole_event(record: Mapping[str, Any], *, rounded_ts: bool = False) -> dict[str, Any]:
    """An event's fields with whole numbers: ``duration_ms`` is rounded, since browsers measure fractions.

    Args:
        record: fields of an event that are not validated yet.
        rounded_ts: whether ``ts`` is rounded too; else a fraction is left for validation to reject.
    """
    found = dict(record)
    if isinstance(found.get("ts"), float):
        found["ts"] = whole(found["ts"], rounded=rounded_ts)
    if isinstance(found.get("duration_ms"), float):
        found["duration_ms"] = whole(found["duration_ms"], rounded=True)
    return found


def whole_metric(record: Mapping[str, Any], *, rounded_ts: bool = False) -> dict[str, Any]:
    """A sample's fields with whole numbers: the value of a timer is rounded, an increment must be whole."""
    found = dict(record)
    if isinstance(found.get("ts"), float):
        found["ts"] = whole(found["ts"], rounded=rounded_ts)
    if isinstance(found.get("value"), float):
        found["value"] = whole(found["value"], rounded=found.get("kind") == TIMER)
    return found
