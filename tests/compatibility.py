"""Whether one version of a schema can replace another while both are in use.

Apache Avro's own checker decides (package ``avro``), which only development needs: this module is for the tests
that reject an incompatible change, and nothing imports it at run time.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse

if TYPE_CHECKING:
    from collections.abc import Mapping


def incompatibilities(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Why ``new`` cannot follow ``old``; empty where it can.

    Args:
        old: the earlier schema, as JSON.
        new: the later one.

    Returns:
        Errors that begin with "backward" (a new reader cannot read what an old writer wrote: the topic's past is lost)
        or "forward" (an old reader cannot read what a new writer writes: workers must all stop for the upgrade).
    """
    return [
        *(f"backward, new reads old: {error}" for error in _errors(reader=new, writer=old)),
        *(f"forward, old reads new: {error}" for error in _errors(reader=old, writer=new)),
    ]


def _errors(*, reader: Mapping[str, Any], writer: Mapping[str, Any]) -> list[str]:
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(parse(json.dumps(reader)), parse(json.dumps(writer)))
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    return sorted(f"{message} at {place}" for message, place in zip(result.messages, result.locations, strict=False))
