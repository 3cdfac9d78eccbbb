"""YAML files that people write: read with line numbers, validated by pydantic models, rejected in one form.

Every message is ``file:line: field: what is wrong; right would be …``. The remedy is the description of the model's
field (``Field(description=…)``).
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedBase
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from funnelwatch.schemas.file_errors import explained

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from funnelwatch.schemas.errors import FileError

M = TypeVar("M", bound=BaseModel)

TIMESTAMP = "tag:yaml.org,2002:timestamp"
CONSTRUCTOR_ERRORS = (ValueError, LookupError, TypeError, AttributeError, OverflowError)
"""The errors that the constructors of ruamel.yaml raise for texts such as ``2026-02-30`` and ``!!int x``."""

QUOTED = re.compile(r" ?(['\"])[\w!][^'\"]+\1")
PLAIN_KEY = re.compile(r"[\w:*-]{1,100}")


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file.

    Attributes:
        name: the file, for messages.
        content: the YAML values; maps and lists know their lines.
        error: the kind of error that rejects this kind of file.
        shows_values: whether messages may repeat a value; False where values are secrets.
        has_lines: whether messages name lines; False where the content comes from no file.
    """

    name: str
    content: Any
    error: type[FileError]
    shows_values: bool = True
    has_lines: bool = True

    @classmethod
    def read(cls, path: Path, error: type[FileError], *, shows_values: bool = True) -> Document:
        """Read a file.

        Raises:
            FileError: the file cannot be read or is not YAML in UTF-8; the error is of the given kind.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as problem:
            raise error(f"{path}: cannot be read: {problem.strerror}") from problem
        except UnicodeDecodeError as problem:
            byte = f"byte {problem.object[problem.start]:#04x} at {problem.start}"
            raise error(f"{path}: is not UTF-8 ({byte}); right would be YAML in UTF-8") from None
        return cls.parse(text, str(path), error, shows_values=shows_values)

    @classmethod
    def parse(cls, text: str, name: str, error: type[FileError], *, shows_values: bool = True) -> Document:
        """Parse the text of a file.

        Raises:
            FileError: the text is not well-formed YAML, or a value cannot be of its type; the error is of the given
                kind. Its message shows no values.
        """
        reader = YAML(typ="rt")
        reader.Constructor = _Constructor
        try:
            return cls(name, reader.load(io.StringIO(text)), error, shows_values)
        except MarkedYAMLError as problem:
            line = problem.problem_mark.line + 1 if problem.problem_mark else 1
            what = f"{line}: YAML: {_without_values(problem.problem or 'is broken')}"
            raise error(f"{name}:{what}; right would be well-formed YAML with each key once") from None
        except YAMLError as problem:
            raise error(f"{name}: YAML: {problem}; right would be a text without control characters") from None
        except CONSTRUCTOR_ERRORS:
            what = "a value cannot be of the type that its tag names"
            raise error(f"{name}: YAML: {what}; right would be a value without a tag") from None
        except RecursionError:
            raise error(f"{name}: YAML: is nested too deeply; right would be a few levels") from None

    def at(self, loc: Sequence[str | int]) -> Any:
        """The value at a place."""
        here = self.content
        for part in loc:
            here = here[part]
        return here

    def line(self, loc: Sequence[str | int]) -> int:
        """The line of the deepest part of a place that the file has."""
        line = 1
        here = self.content
        for part in loc:
            key = _key(here, part)
            if key is None or not isinstance(here, CommentedBase):
                break
            marks = here.lc.key(key) if isinstance(here, dict) else here.lc.item(key)
            here = here[key]  # type: ignore[index]
            line = marks[0] + 1
        return line

    def rejected(self, loc: Sequence[str | int], what: str, right: str) -> FileError:
        """An error about a place of the file."""
        return self.error(self._sentence(loc, what, right))

    def validated(self, model: type[M], loc: Sequence[str | int] = (), content: Any = None) -> M:
        """The part of the file at a place, validated.

        Args:
            model: the model; the descriptions of its fields are the remedies in messages.
            loc: the place; the whole file without it.
            content: the values to validate instead of those at the place, such as with secrets filled in.

        Raises:
            FileError: it does not fit the model; one line for each error, unknown fields first, since a misspelt field
                is most often the reason why another is missing.
        """
        written = plain(self.at(loc)) if content is None else content
        written = {} if written is None else written
        try:
            return model.model_validate(written)
        except ValidationError as error:
            # pydantic also calls a tuple too short whose items are invalid.
            errors = [one for one in error.errors() if one["type"] != "too_short" or not one["input"]]
            found = [explained(model, one, written, self.shows_values) for one in errors]
        meant = {(*one.loc[:-1], one.right) for one in found if one.is_unknown}
        left = [one for one in found if one.is_unknown or (*one.loc,) not in meant or not one.is_missing]
        left.sort(key=lambda one: not one.is_unknown)
        raise self.error("\n".join(self._sentence([*loc, *one.loc], one.what, one.right) for one in left))

    def _sentence(self, loc: Sequence[str | int], what: str, right: str) -> str:
        loc = self._written(loc)
        where = f"{self.name}:{self.line(loc)}" if self.has_lines else self.name
        remedy = f"; right would be {right}" if right and "right would be" not in what else ""
        return f"{where}: {place_of(loc) or 'file'}: {what}{remedy}"

    def _written(self, loc: Sequence[str | int]) -> list[str | int]:
        """A place as far as the file has it.

        A text that stands for a list of one has no ``[0]``, and a list that stands for a map has no field.
        """
        place: list[str | int] = []
        here = self.content
        for part in loc:
            if isinstance(part, int) != isinstance(here, list):
                continue
            key = _key(here, part)
            here = None if key is None else here[key]
            place.append(part)
        return place


def place_of(loc: Sequence[str | int]) -> str:
    """A place as a person writes it: ``groups[0].rules[1].below``."""
    texts = (f".{part}" if isinstance(part, str) and PLAIN_KEY.fullmatch(part) else f"[{part!r}]" for part in loc)
    return "".join(texts).lstrip(".")


def plain(value: Any) -> Any:
    """The value without the layout that ruamel.yaml remembers; keys become texts."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _key(here: Any, part: str | int) -> Any:
    """The key or index of a map or list that a part of a place means; None where there is none."""
    if isinstance(here, dict):
        return next((key for key in here if key == part or str(key) == part), None)
    return part if isinstance(here, list) and isinstance(part, int) and part < len(here) else None


def _without_values(problem: str) -> str:
    """A problem that the parser reports, without the values that it repeats: one may be a secret."""
    problem = problem.partition("\n")[0].partition(" with value ")[0]
    return problem if problem.startswith("found duplicate key") else QUOTED.sub("", problem)


class _Constructor(RoundTripConstructor):
    """Adds the line to errors about values that cannot be of their type."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except CONSTRUCTOR_ERRORS as error:
            if str(node.tag) == TIMESTAMP:
                problem = f"a value looks like a time and is none ({error}): quotes make it a text"
            else:
                problem = "a value cannot be of its type: quotes make it a text"
            raise ConstructorError(None, None, problem, node.start_mark) from None
