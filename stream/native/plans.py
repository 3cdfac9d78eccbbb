"""Plans: programs that the decoder in C runs over the records of one writer (``wire.c`` has the operations)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from funnelwatch.schemas.dimensions import DIMENSION_FIELDS
from funnelwatch.stream.intake.batches import NONE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.schemas.arrays import Ints

END, TEXT, LONG, ENUM, OPTION, MAP, DEFAULT, NUMBER = range(8)
"""``OP_END`` and so on."""

MOST_DIMENSIONS = 124
"""A deployment with more dimensions than this has its records decoded one by one."""

MOST_SYMBOLS = 64

TEXTS = {name: at for at, name in enumerate(("event_id", "sign_up_session_id", "funnel", "step", *DIMENSION_FIELDS))}
NUMBERS = {name: at for at, name in enumerate(("ts", "duration_ms", "phase", "status"))}
"""The targets of fields; ``contexts`` come behind ``DIMENSION_FIELDS``."""
PASSED_TEXT, PASSED_NUMBER = 4 + MOST_DIMENSIONS, 4
"""The targets of fields that are not ours."""

PAIR = 2
"""Branches of a union that makes a field nullable."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A program, and the texts of the fields that it finds unwritten."""

    program: Ints
    defaults: bytes


def plan_for(writer: Any, reader: Mapping[str, Any]) -> Plan | None:
    """How to read a writer's events; None where that takes more than the operations do.

    Args:
        writer: its schema.
        reader: ours.
    """
    if not isinstance(writer, dict) or writer.get("type") != "record" or writer["name"] != reader["name"]:
        return None
    named = writer.get("__named_schemas", {})
    wanted = {one["name"]: one for one in reader["fields"]}
    program: list[int] = []
    defaults = b""
    for one in writer["fields"]:
        own = wanted.pop(one["name"], None)
        written = _resolved(one["type"], named)
        step = _step(one["name"] if own else "", written, own["type"] if own else written)
        if step is None:
            return None
        program += step
    for name, one in wanted.items():
        if "default" not in one or "aliases" in one:
            return None
        default, kind = one["default"], one["type"]
        if kind == "string":
            program += [DEFAULT, TEXTS[name], len(defaults), len(default.encode())]
            defaults += default.encode()
        elif isinstance(kind, list) and default is None:
            program += [NUMBER, NUMBERS[name], NONE]
        elif not _is_map(kind):  # without contexts there is none
            return None
    return Plan(np.array([*program, END], np.int64), defaults)


def _resolved(kind: Any, named: Mapping[str, Any]) -> Any:
    """A type, or the branches of a union, with the schema in the place of a name."""
    if isinstance(kind, list):
        return [_resolved(branch, named) for branch in kind]
    return named.get(kind, kind) if isinstance(kind, str) else kind


def _step(name: str, written: Any, read: Any) -> list[int] | None:
    """The operation for a field; without a name it is not ours, and passed over."""
    if written == "string" == read:
        return [TEXT, TEXTS.get(name, PASSED_TEXT)]
    number = NUMBERS.get(name, PASSED_NUMBER)
    if written == "long" == read:
        return [LONG, number]
    if _is_map(written) and _is_map(read):
        return [MAP, int(name == "contexts")]
    symbols = _symbols(written, read)
    if symbols is not None:
        return [ENUM, number, len(symbols), *symbols]
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read) == PAIR:
        inner = _step(name, written[1], read[1]) if written[0] == "null" == read[0] else None
        if inner is not None and inner[0] in (LONG, ENUM):
            return [OPTION, number, *inner]
    return None


def _symbols(written: Any, read: Any) -> list[int] | None:
    """The reader's index of each of the writer's symbols, where both are one enum; -1 for one that is new."""
    both = (written, read)
    if any(not isinstance(one, dict) or one["type"] != "enum" for one in both) or written["name"] != read["name"]:
        return None
    known = {symbol: index for index, symbol in enumerate(read["symbols"])}
    return [known.get(symbol, -1) for symbol in written["symbols"][:MOST_SYMBOLS]]


def _is_map(kind: Any) -> bool:
    return isinstance(kind, dict) and kind["type"] == "map" and kind["values"] == "string"
