"""YAML that people write, read so that an impossible value is a fault of its line and not an error of the program."""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import YAMLError

TIMESTAMP = "tag:yaml.org,2002:timestamp"
FAULTS = (ValueError, LookupError, TypeError, AttributeError, OverflowError)
"""What the constructors of ruamel.yaml raise for texts such as ``2026-02-30`` and ``!!int x``."""


def load_yaml(text: str) -> Any:
    """A document that knows the lines of its parts.

    Raises:
        YAMLError: it is not well-formed, or a value cannot be of its type. No message of the latter has the value,
            which may be a secret.
        RecursionError: it is nested too deeply.
    """
    reader = YAML(typ="rt")
    reader.Constructor = _Constructor
    try:
        return reader.load(io.StringIO(text))
    except FAULTS:
        raise YAMLError("a value cannot be of the type that its tag names") from None


class _Constructor(RoundTripConstructor):
    """Names the line of a value that cannot be."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except FAULTS as error:
            if str(node.tag) == TIMESTAMP:
                problem = f"a value looks like a time and is none ({error}): quotes make it a text"
            else:
                problem = "a value cannot be of its type: quotes make it a text"
            raise ConstructorError(None, None, problem, node.start_mark) from None
