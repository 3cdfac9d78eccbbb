"""Strict types of values in YAML files: a value that would be accepted and have no effect is rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator

if TYPE_CHECKING:
    from collections.abc import Sequence

S = TypeVar("S", bound="Sequence[Any]")

LONGEST_NAME = 100
"""Characters of a funnel, step or value: an event with a longer one is rejected, so a rule for it would never match."""


def a_number(value: Any) -> Any:
    """The value, if it is a finite number; true and false are no numbers.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, not {value!r}")  # noqa: TRY004 - pydantic turns ValueErrors into its own
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN is not itself
        raise ValueError(f"{value} is not a number that anything can be compared with")
    return value


def a_whole_number(value: Any) -> Any:
    """The value, if it is a whole number.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, not {value!r}")  # noqa: TRY004 - pydantic turns ValueErrors into its own
    return value


def a_text(value: str) -> str:
    """The text, if an event can have it and every character of it is visible.

    Raises:
        ValueError: it is empty or too long, begins or ends with a space, or has invisible characters.
    """
    if not value:
        raise ValueError("is empty")
    if len(value) > LONGEST_NAME:
        raise ValueError(f"has {len(value)} characters; an event with more than {LONGEST_NAME} is rejected")
    if value != value.strip():
        raise ValueError(f"{value!r} begins or ends with a space, and would match nothing")
    if not value.isprintable():
        raise ValueError(f"{value!r} has a line break or another invisible character")
    return value


def a_line(value: str) -> str:
    """The text, if it is not empty and is one line; the message does not repeat it, since it may be a secret.

    Raises:
        ValueError: it is empty or has several lines.
    """
    if not value:
        raise ValueError("is empty")
    if value != value.strip() or not value.isprintable():
        raise ValueError("begins or ends with a space, or has an invisible character")
    return value


def once(values: S) -> S:
    """The values, if each appears once.

    Raises:
        ValueError: one is repeated.
    """
    for number, value in enumerate(values):
        if value in values[:number]:
            raise ValueError(f"{value} is repeated")
    return values


def some(values: Any) -> Any:
    """The list or map, if it is not empty.

    Raises:
        ValueError: it is empty.
    """
    if not values:
        raise ValueError("is empty, which is not the same as leaving it out")
    return values


Number = Annotated[float, BeforeValidator(a_number)]
"""A finite number."""

Whole = Annotated[int, BeforeValidator(a_whole_number)]
"""A whole number."""

Text = Annotated[str, AfterValidator(a_text)]
"""The name of a funnel or step, or a value of a dimension."""

Line = Annotated[str, AfterValidator(a_line)]
"""A text of one line, such as a host or a key."""
