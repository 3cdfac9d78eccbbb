"""The Avro schemas of this project: the current ones, their earlier versions, and their fingerprints.

The current version of a schema is a ``.avsc`` file of this folder; an earlier one is ``history/<release>/*.avsc``, put
there with each release, and belongs to the current schema with the same record name.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HERE = Path(__file__).parent


def load(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The parsed schemas of these files, logical types taken off, in the order of the paths."""
    return [plain(json.loads(path.read_text())) for path in sorted(paths)]


def plain(schema: Any, references: Iterable[Any] = ()) -> Any:
    """A schema parsed for reading and writing, without logical types.

    Args:
        schema: its JSON; of a record a dictionary is returned, of a union a list.
        references: the JSON of the schemas that it refers to by name; each after those that it refers to itself.

    Times stay whole milliseconds: fastavro would make a datetime of each, which is slow.
    A logical type changes neither the bytes nor the fingerprint.

    Raises:
        fastavro.schema.SchemaParseException: it is not an Avro schema.
    """
    named: dict[str, Any] = {}
    for reference in references:
        parse_schema(_without_logical_types(reference), named)
    parsed: Any = parse_schema(_without_logical_types(schema), named)
    return [_complete(branch, named) for branch in parsed] if isinstance(parsed, list) else _complete(parsed, named)


def _complete(parsed: Any, named: Mapping[str, Any]) -> Any:
    """Resolve a schema that is the name of another."""
    if isinstance(parsed, str) and parsed in named:
        return {**named[parsed], "__fastavro_parsed": True, "__named_schemas": named}
    return dict(parsed) if isinstance(parsed, dict) else parsed


def single_object_fingerprint(schema: Any) -> bytes:
    """The 8 bytes that name a schema in single-object encoding: little-endian CRC-64-AVRO of its canonical form."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


@cache
def history(name: str) -> tuple[dict[str, Any], ...]:
    """Earlier versions of the schema of that record name (without namespace), by path."""
    return tuple(schema for schema in load((HERE / "history").glob("*/*.avsc")) if short_name(schema) == name)


def short_name(schema: Mapping[str, Any]) -> str:
    """The record name without its namespace."""
    return str(schema["name"]).rpartition(".")[2]


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        plainer = {key: _without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
        return plainer["type"] if plainer.keys() == {"type"} else plainer
    if isinstance(schema, list):
        return [_without_logical_types(item) for item in schema]
    return schema


SCHEMAS: Mapping[str, dict[str, Any]] = {short_name(schema): schema for schema in load(HERE.glob("*.avsc"))}
"""The current schemas by record name: FunnelEvent, ClosedWindow, Alert."""
