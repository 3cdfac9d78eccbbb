"""Records to bytes and back: Avro in two framings, told apart by the first byte.

==================  ==================================================  =====================================
framing             bytes before the Avro body                          the writer's schema comes from
==================  ==================================================  =====================================
single-object       ``C3 01``, 8 bytes little-endian CRC-64-AVRO        this folder and ``history/``
Confluent           ``00``, 4 bytes big-endian schema id                the schema registry
==================  ==================================================  =====================================

Encoding uses Confluent framing when it is given a registry, else single-object encoding; decoding takes both. Times are
whole milliseconds on both sides, never datetimes.
"""

from __future__ import annotations

import struct
from copy import deepcopy
from enum import StrEnum
from io import BytesIO
from typing import TYPE_CHECKING, Any

from fastavro import schemaless_reader, schemaless_writer
from fastavro.read import SchemaResolutionError

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.files import SCHEMAS, history, plain, single_object_fingerprint
from funnelwatch.schemas.fit import misfit
from funnelwatch.schemas.registry import Registry, RegistryRejected, RegistryUnavailable, UnknownSchemaId

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "SCHEMAS",
    "Decoder",
    "Encoder",
    "Reason",
    "Registry",
    "RegistryRejected",
    "RegistryUnavailable",
    "Undecodable",
]

SINGLE_OBJECT = b"\xc3\x01"
SINGLE_OBJECT_HEADER = 10
CONFLUENT = b"\x00"
CONFLUENT_HEADER = 5
LONGEST_ERROR = 300


class Reason(StrEnum):
    """Why bytes are no record."""

    EMPTY = "EMPTY"
    UNKNOWN_FRAMING = "UNKNOWN_FRAMING"
    UNKNOWN_FINGERPRINT = "UNKNOWN_FINGERPRINT"
    UNKNOWN_SCHEMA_ID = "UNKNOWN_SCHEMA_ID"
    INCOMPATIBLE_SCHEMA = "INCOMPATIBLE_SCHEMA"
    INVALID_AVRO = "INVALID_AVRO"
    TRAILING_BYTES = "TRAILING_BYTES"


class Undecodable(FunnelwatchError):  # noqa: N818 - a verdict on the bytes, not a bug
    """These bytes are no record of the schema and never will be: they belong into the dead letters.

    Attributes:
        reason: the kind of error, for counting.
        detail: what exactly, for a person.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        """Reason and detail in one line."""
        return f"{self.reason}: {self.detail}"


class Encoder:
    """Makes the bytes of one kind of record; thread-safe.

    Args:
        name: a key of ``SCHEMAS``.
        registry: where the schema is registered, at the first record; None for single-object encoding.
        subject: the registry's subject; by default the full record name (Confluent's RecordNameStrategy), which
            one schema on several topics shares.
        is_strict: whether every record with arrays is compared with the schema, field by field. It takes five times as
            long as encoding, which records that funnelwatch itself makes of typed values can do without.
    """

    def __init__(
        self, name: str, registry: Registry | None = None, subject: str | None = None, *, is_strict: bool = True
    ) -> None:
        self._schema = SCHEMAS[name]
        self._registry = registry
        self._subject = subject or str(self._schema["name"])
        self._header = None if registry else SINGLE_OBJECT + single_object_fingerprint(self._schema)
        fields = self._schema["fields"]
        self._names = frozenset(field["name"] for field in fields)
        self._longs = tuple(field["name"] for field in fields if field["type"] in ("int", "long"))
        self._maps = tuple(field["name"] for field in fields if _is_a(field["type"], "map"))
        self._nested = is_strict and any(_is_a(field["type"], "array") for field in fields)

    def __call__(self, record: Mapping[str, Any]) -> bytes:
        """The framed bytes of a record; absent fields take the schema's defaults.

        Raises:
            ValueError: the record does not fit the schema; the message names the field and what is wrong.
            RegistryUnavailable: the schema could not be registered now.
        """
        header = self._header or self.register()
        out = BytesIO(header)
        out.seek(len(header))
        try:
            schemaless_writer(out, self._schema, record)
        except (TypeError, ValueError, OverflowError, AttributeError, KeyError) as error:
            raise ValueError(misfit(self._schema, record) or str(error)) from error
        # fastavro lets pass an unknown field, a fraction, a bool for a number, an empty list for a map.
        if (
            self._nested
            or not self._names.issuperset(record)
            or any(type(record[name]) is not int for name in self._longs)
            or any(type(record.get(name, _NO_MAP)) is not dict for name in self._maps)
        ) and (wrong := misfit(self._schema, record)):
            raise ValueError(wrong)
        return out.getvalue()

    def register(self) -> bytes:
        """The bytes before every record; with a registry this registers the schema, once.

        Raises:
            RegistryUnavailable: the registry cannot be asked now.
            RegistryRejected: the registry does not take the schema.
        """
        if self._header or self._registry is None:
            return self._header or b""
        schema = {key: value for key, value in self._schema.items() if not key.startswith("__")}
        header = CONFLUENT + struct.pack(">I", self._registry.register(self._subject, schema))
        self._header = header
        return header


class Decoder:
    """Makes a record of bytes, whoever wrote them; thread-safe.

    Args:
        name: a key of ``SCHEMAS``: the schema that every record is resolved to.
        registry: where Confluent schema ids are looked up; without one every id is unknown.

    Attributes:
        reader: the schema that every record is resolved to.

    fastavro takes a negative union index, counted from the end, for what it is not: such bytes, which no encoder
    writes, decode although they are not Avro to the letter.
    """

    def __init__(self, name: str, registry: Registry | None = None) -> None:
        self.reader = SCHEMAS[name]
        self._registry = registry
        self._strict = _with_strict_enums(self.reader)
        self._current = SINGLE_OBJECT + single_object_fingerprint(self.reader)
        self._by_fingerprint = {single_object_fingerprint(schema): schema for schema in history(name)}
        self._by_id: dict[int, Any] = {}
        self._unusable: dict[int, str] = {}

    def __call__(self, value: bytes | None) -> dict[str, Any]:
        """The record, with every field of the current schema.

        Raises:
            Undecodable: the bytes are no record; its reason says why.
            RegistryUnavailable: the writer's schema could not be looked up now; the bytes may be good: try again.
        """
        if not value:
            raise Undecodable(Reason.EMPTY, "no value")
        if value[:SINGLE_OBJECT_HEADER] == self._current:
            return self._read(value, SINGLE_OBJECT_HEADER, self._strict, None)
        header = SINGLE_OBJECT_HEADER if value[:2] == SINGLE_OBJECT else CONFLUENT_HEADER
        return self._read(value, header, self.writer(value), self.reader)

    def writer(self, value: bytes) -> Any:
        """The schema that a value, or its header alone, says it was written with: a dictionary, or a union's list.

        Raises:
            Undecodable: it says none that is known.
            RegistryUnavailable: it could not be looked up now.
        """
        if value[:SINGLE_OBJECT_HEADER] == self._current:
            return self.reader
        if value[:2] == SINGLE_OBJECT:
            return self._of_fingerprint(value)
        if value[:1] == CONFLUENT:
            return self._of_id(value)
        raise Undecodable(Reason.UNKNOWN_FRAMING, f"begins with {value[:2].hex(' ')}, not with c3 01 or 00")

    def _read(self, value: bytes, start: int, writer: Any, reader: Any) -> dict[str, Any]:
        body = BytesIO(value)
        body.seek(start)
        try:
            record: Any = schemaless_reader(body, writer, reader)
        except SchemaResolutionError as error:
            whose = f"schema {struct.unpack_from('>I', value, 1)[0]}" if start == CONFLUENT_HEADER else "its schema"
            what = f"{whose} ({_name(writer)}) cannot be read as {self.reader['name']}: {_said(error)}"
            raise Undecodable(Reason.INCOMPATIBLE_SCHEMA, what) from error
        except Exception as error:  # garbage makes fastavro raise whatever its parts do, from EOFError to MemoryError
            raise Undecodable(Reason.INVALID_AVRO, f"{type(error).__name__}: {error}") from error
        if (end := body.tell()) != len(value):
            raise Undecodable(Reason.TRAILING_BYTES, f"{len(value) - end} bytes after the record")
        return record  # type: ignore[no-any-return]

    def _of_fingerprint(self, value: bytes) -> dict[str, Any]:
        """The earlier version of the schema that single-object encoded bytes name."""
        if len(value) < SINGLE_OBJECT_HEADER:
            raise Undecodable(Reason.INVALID_AVRO, f"{len(value)} bytes are less than the header")
        fingerprint = value[2:SINGLE_OBJECT_HEADER]
        if fingerprint not in self._by_fingerprint:
            raise Undecodable(Reason.UNKNOWN_FINGERPRINT, f"no schema has the fingerprint {fingerprint.hex()}")
        return self._by_fingerprint[fingerprint]

    def _of_id(self, value: bytes) -> Any:
        """The schema whose id Confluent-framed bytes name."""
        if len(value) < CONFLUENT_HEADER:
            raise Undecodable(Reason.INVALID_AVRO, f"{len(value)} bytes are less than the header")
        schema_id: int = struct.unpack_from(">I", value, 1)[0]
        if schema_id in self._by_id:
            return self._by_id[schema_id]
        if self._registry is None:
            raise Undecodable(Reason.UNKNOWN_SCHEMA_ID, f"schema id {schema_id}, and no schema registry is configured")
        if schema_id in self._unusable:
            raise Undecodable(Reason.UNKNOWN_SCHEMA_ID, self._unusable[schema_id])
        try:
            *references, own = self._registry.schemas(schema_id)
            schema = plain(own, references)
        except UnknownSchemaId as error:
            raise Undecodable(Reason.UNKNOWN_SCHEMA_ID, str(error)) from error
        except RegistryUnavailable:
            raise
        except Exception as error:  # whatever parse_schema raises for what is no schema
            self._unusable[schema_id] = f"schema {schema_id} cannot be used: {_said(error)}"
            raise Undecodable(Reason.UNKNOWN_SCHEMA_ID, self._unusable[schema_id]) from error
        self._by_id[schema_id] = schema
        return schema


_NO_MAP: dict[str, str] = {}


def _name(schema: Any) -> str:
    """The full name of a schema, or its type where it has none."""
    if isinstance(schema, list):
        return f"a union of {', '.join(map(_name, schema))}"
    return str(schema.get("name", schema.get("type"))) if isinstance(schema, dict) else str(schema)


def _said(error: Exception) -> str:
    """An error in one short line; fastavro quotes whole schemas."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return said if len(said) <= LONGEST_ERROR else f"{said[:LONGEST_ERROR]}…"


def _is_a(schema: Any, kind: str) -> bool:
    return isinstance(schema, dict) and schema["type"] == kind


def _with_strict_enums(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with each enum's symbols keyed by index, for reading only.

    fastavro indexes the list of symbols, so that a negative index would quietly mean one from the end; a mapping has no
    negative keys, and costs nothing.
    """

    def strict(part: Any) -> Any:
        if isinstance(part, dict):
            changed = {key: strict(value) for key, value in part.items()}
            if part.get("type") == "enum":
                changed["symbols"] = dict(enumerate(part["symbols"]))
            return changed
        return [strict(item) for item in part] if isinstance(part, list) else part

    return dict(strict(deepcopy(schema)))
