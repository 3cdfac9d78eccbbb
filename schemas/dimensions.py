"""Dimensions: the names by which events are grouped. Each is a field of an event, or a key of its contexts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from funnelwatch.schemas.files import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DIMENSION_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
"""Fits a column of PostgreSQL (63 bytes), a label of Prometheus and an argument of Python, without quotes."""

DIMENSION_FIELDS: Final = ("os", "browser", "app_version")
"""Dimensions that are fields of an event."""

_PLACES: Final = {name: place for place, name in enumerate(DIMENSION_FIELDS)}

EVENT_FIELDS: Final = frozenset(field["name"] for field in SCHEMAS["FunnelEvent"]["fields"])
RESERVED: Final = EVENT_FIELDS.difference(DIMENSION_FIELDS)
"""Fields that are no dimensions: no dimension has their name."""


def check_dimension_name(name: str) -> str:
    """The name, if a dimension can have it.

    Raises:
        ValueError: it does not fit ``DIMENSION_NAME``, or is a field of an event that is no dimension.
    """
    if not DIMENSION_NAME.fullmatch(name):
        right = "up to 63 of a-z, 0-9 and _, a letter first"
        raise ValueError(f"{name[:100]}: is not the name of a dimension; right would be {right}")
    if name in RESERVED:
        raise ValueError(f"{name}: is a field of an event, not a dimension; right would be another name")
    return name


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Different names of dimensions in the order of display: the fields of events first, then by name."""
    return tuple(sorted(set(names), key=lambda name: (name not in DIMENSION_FIELDS, _PLACES.get(name, 0), name)))


def check_dimension(name: str, value: Any) -> str:
    """The value, if it is a text.

    Numbers and booleans are rejected, not converted: languages write True, 1.0 and 1e3 in different ways, and each
    spelling would be a series of its own.

    Raises:
        ValueError: the name or the value is invalid; the message begins with the name.
    """
    check_dimension_name(name)
    if isinstance(value, str):
        return value
    raise ValueError(f"{name}: {value!r} is not a text, as dimensions are; right would be {str(value)!r}")


def merged_contexts(*parts: Mapping[str, Any]) -> Any:
    """The contexts of an event that is put together from parts, of which a later one counts more.

    A part's contexts are those under ``contexts`` and every key that is not a field of an event: the further
    dimensions. None leaves a dimension out. Contexts that are no map are returned for validation to name.

    Raises:
        ValueError: a dimension is invalid, or stands in the contexts of the same part with another value.
    """
    found: dict[str, Any] = {}
    for part in parts:
        contexts = part.get("contexts")
        if contexts is not None and not isinstance(contexts, dict):
            return contexts
        found.update(contexts or {})
        for name, value in part.items():
            if name in EVENT_FIELDS or value is None:
                continue
            if contexts and contexts.get(name, value) != value:
                raise ValueError(f"{name}: is {value!r}, and {contexts[name]!r} in contexts; right would be one value")
            found[name] = check_dimension(name, value)
    return found
