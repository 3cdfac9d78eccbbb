"""YAML that people write, read so that an impossible value is a fault of its line and not an error of the program."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedBase
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from funnelwatch.schemas.errors import FunnelwatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMESTAMP = "tag:yaml.org,2002:timestamp"
FAULTS = (ValueError, LookupError, TypeError, AttributeError, OverflowError)
"""What the constructors of ruamel.yaml raise for texts such as ``2026-02-30`` and ``!!int x``."""


class YamlFileError(FunnelwatchError, ValueError):
    """A file cannot be used; the message names file and line, what is wrong and what would be right."""


def parse_yaml(text: str, name: str) -> Any:
    """A document that knows the lines of its parts.

    Raises:
        YamlFileError: it is not well-formed.
    """
    try:
        return load_yaml(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        # Of a key that stands twice the parser tells both values, which may be secrets.
        problem = (error.problem or "is broken").split("\n")[0].partition(" with value ")[0]
        raise YamlFileError(
            f"{name}:{line}: YAML: {problem}; right would be well-formed YAML with each key once"
        ) from None
    except YAMLError as error:
        raise YamlFileError(f"{name}: YAML: {error}") from None
    except RecursionError:
        raise YamlFileError(f"{name}: YAML: is nested too deeply; right would be a few levels") from None


def line_of(document: Any, loc: Sequence[str | int]) -> int:
    """The line of the deepest place that the file has of ``loc``."""
    line = 1
    here = document
    for part in loc:
        if not isinstance(here, CommentedBase):
            break
        try:
            marks = here.lc.key(part) if isinstance(here, dict) else here.lc.item(part)
            here = here[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            break
        line = marks[0] + 1
    return line


def place_of(loc: Sequence[str | int]) -> str:
    """A place as a person writes it: ``groups[0].rules[1]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def plain(value: Any) -> Any:
    """The value without what ruamel.yaml remembers about its layout."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


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
