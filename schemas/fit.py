"""The reason why a record does not fit its schema, with the field's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

RANGES = {"int": 2**31, "long": 2**63}


def misfit(schema: Any, value: Any, at: str = "") -> str | None:
    """The first error of a value of a parsed schema, as ``field: error``; None where it fits.

    Stricter than fastavro, which silently cuts a fraction off a time, takes a list for a map and overlooks a
    misspelt field.
    """
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(kind, list):
        return _misfit_union(kind, value, at)
    if kind == "record":
        return _misfit_record(schema, value, at)
    if kind in ("array", "map"):
        return _misfit_collection(schema, value, at)
    error = _error(schema, kind, value)
    return f"{at}: {value!r} {error}" if error else None


def _error(schema: Any, kind: str, value: Any) -> str | None:
    """The error of a value that has no parts."""
    fits, error = False, f"is of the Avro type {kind}, which is not used here"
    if kind == "enum":
        symbols = schema["symbols"]
        fits, error = isinstance(value, str) and value in symbols, f"is not one of {', '.join(symbols)}"
    elif kind in RANGES:
        is_whole = type(value) is int
        fits = is_whole and abs(value) < RANGES[kind]
        error = f"is {'too large' if is_whole else 'not a whole number'} (Avro {kind})"
    elif kind == "double":
        fits, error = isinstance(value, float) or type(value) is int, "is not a number"
    elif kind == "string" and isinstance(value, str):
        fits, error = _is_unicode(value), "has a lone surrogate, which UTF-8 cannot hold"
    elif kind == "string":
        error = "is not a string"
    return None if fits else error


def _misfit_union(branches: list[Any], value: Any, at: str) -> str | None:
    if value is None and "null" in branches:
        return None
    errors = [misfit(branch, value, at) for branch in branches if branch != "null"]
    return None if None in errors else errors[0]


def _misfit_record(schema: Mapping[str, Any], value: Any, at: str) -> str | None:
    if not isinstance(value, dict):
        return f"{at or schema['name']}: {value!r} is not a record"
    fields = {field["name"]: field for field in schema["fields"]}
    prefix = f"{at}." if at else ""
    for name, field in fields.items():
        if name not in value:
            if "default" not in field:
                return f"{prefix}{name}: is missing"
            continue
        if error := misfit(field["type"], value[name], prefix + name):
            return error
    for name in value:
        if name not in fields:
            return f"{prefix}{name}: is not a field of {schema['name']}, which has {', '.join(fields)}"
    return None


def _misfit_collection(schema: Mapping[str, Any], value: Any, at: str) -> str | None:
    if schema["type"] == "array":
        if not isinstance(value, list):
            return f"{at}: {value!r} is not a list"
        errors = (misfit(schema["items"], item, f"{at}[{index}]") for index, item in enumerate(value))
        return next((error for error in errors if error), None)
    if not isinstance(value, dict):
        return f"{at}: {value!r} is not a map"
    for key, item in value.items():
        if not isinstance(key, str) or not _is_unicode(key):
            return f"{at}: the key {key!r} is not a string"
        if error := misfit(schema["values"], item, f"{at}.{key}"):
            return error
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
