"""Errors of pydantic about files that people write, in plain words: the place, what is wrong, what would be right."""

from __future__ import annotations

import difflib
from datetime import date
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic_core import ErrorDetails

SHOWN = 200
"""Characters of a value in a message."""

NOT_BLANK = r"\S"
"""The pattern of texts that have any visible character."""

WANTED = {
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a map",
    "model_type": "a map",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "path_type": "a path",
}
"""By type of error: the kind of value that the field takes."""

WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not a known field",
    "too_short": "is empty",
    "string_too_short": "is empty",
    "string_too_long": "has more than {max_length} characters",
    "greater_than": "must be above {gt:,}",
    "greater_than_equal": "must be at least {ge:,}",
    "less_than": "must be below {lt:,}",
    "less_than_equal": "must be at most {le:,}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "string_pattern_mismatch": "must match {pattern}",
}
WITH_VALUE = {name for name, text in WORDS.items() if text.startswith("must")}


class FilePart(BaseModel):
    """A part of a file that a person writes. An unknown field is rejected; a field's description is the remedy."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Explained(NamedTuple):
    """An error in a person's words."""

    loc: tuple[str | int, ...]
    what: str
    right: str
    is_unknown: bool
    is_missing: bool


def explained(model: type[BaseModel], error: ErrorDetails, content: Any, shows_values: bool) -> Explained:
    """An error of pydantic in a person's words.

    Args:
        model: the model that was validated.
        error: the error.
        content: the values that were validated.
        shows_values: whether the text may repeat the value.
    """
    kind = error["type"]
    loc = tuple(part for part in error["loc"] if part != "[key]" and not str(part).startswith("function-"))
    is_unknown, is_missing = kind == "extra_forbidden", kind == "missing"
    if is_unknown:
        names = _names(_walk(model, loc[:-1])[0])
        near = difflib.get_close_matches(str(loc[-1]), names, n=1)
        right = near[0] if near else f"one of {', '.join(names)}" if len(names) > 1 else "".join(names)
        return Explained(loc, WORDS[kind], right, is_unknown, is_missing)
    what = _what(error, shows_values)
    if kind == "value_error":
        loc, what = _deeper(model, content, loc, what)
    annotation, right = _walk(model, loc)
    if error["loc"][-1:] == ("[key]",):
        right = _of_keys(_walk(model, loc[:-1])[0]) or right
    if not right and (names := _names(annotation)):
        right = f"a map with {', '.join(names)}"
    return Explained(loc, what, right, is_unknown, is_missing)


def _what(error: ErrorDetails, shows_values: bool) -> str:
    """The error without place and remedy."""
    kind, given = error["type"], error["input"]
    if kind == "value_error":
        return error["msg"].removeprefix("Value error, ")
    if kind in WANTED:
        return f"is {kind_of(given)}, not {WANTED[kind]}"
    if kind not in WORDS:
        return f"{error['msg'][0].lower()}{error['msg'][1:]}"
    if kind == "string_pattern_mismatch" and error["ctx"]["pattern"] == NOT_BLANK:
        return "is blank"
    context = {name: _whole(value) for name, value in error.get("ctx", {}).items()}
    words = WORDS[kind].format(**context)
    if kind in WITH_VALUE and (shows_values or isinstance(given, dict | list)):
        words += f", not {kind_of(given) if isinstance(given, dict | list) else _shown(given)}"
    return words


def kind_of(value: object) -> str:
    """The kind of a value, in a person's words."""
    names = {dict: "a map", list: "a list", str: "a text", bool: "true or false", type(None): "empty", date: "a time"}
    return next((text for kind, text in names.items() if isinstance(value, kind)), "a number")


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _deeper(
    model: type[BaseModel], content: Any, loc: tuple[str | int, ...], what: str
) -> tuple[tuple[str | int, ...], str]:
    """The place that a validator's own message begins with, as in ``valid_for: is less than …``, joins the place."""
    for part in loc:
        content = content[part] if _has(content, part) else None
    while True:
        name, colon, rest = what.partition(": ")
        if not colon or (not _has(content, name) and name not in _names(_walk(model, loc)[0])):
            return loc, what
        content = content[name] if _has(content, name) else None
        loc, what = (*loc, name), rest


def _has(content: Any, part: str | int) -> bool:
    if isinstance(content, dict):
        return part in content
    return isinstance(content, list) and isinstance(part, int) and part < len(content)


def _walk(annotation: Any, loc: Sequence[str | int]) -> tuple[Any, str]:
    """The annotation at a place below a model, and the description nearest to it."""
    right = ""
    for part in loc:
        annotation, description = _step(annotation, part)
        right = description or right
    return annotation, right


def _step(annotation: Any, part: str | int) -> tuple[Any, str]:
    for one in _members(annotation):
        origin, args = get_origin(one), get_args(one)
        if isinstance(one, type) and issubclass(one, BaseModel):
            if field := _fields(one).get(str(part)):
                return field.annotation, field.description or ""
        elif origin is dict:
            return args[1], _described(args[1])
        elif args and isinstance(part, int):
            return args[0], _described(args[0])
    return None, ""


def _members(annotation: Any) -> Iterator[Any]:
    """The types that an annotation allows."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _members(one)
    else:
        yield annotation


def _described(annotation: Any) -> str:
    """The description within an ``Annotated``."""
    parts = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((one.description for one in parts if isinstance(one, FieldInfo) and one.description), "")


def _of_keys(annotation: Any) -> str:
    """The description of the keys of a map."""
    maps = (one for one in _members(annotation) if get_origin(one) is dict)
    return next((_described(get_args(one)[0]) for one in maps), "")


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by the names that a file uses."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _names(annotation: Any) -> list[str]:
    """The names of the fields at a place; none where it is no model."""
    models = (one for one in _members(annotation) if isinstance(one, type) and issubclass(one, BaseModel))
    return [name for model in models for name in _fields(model)]
