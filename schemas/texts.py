"""Texts of other people, such as the values of events, where they are shown: in a log, a mail, a chat; pure."""

from __future__ import annotations

VALUE_CHARACTERS = 200
"""Of a funnel, step, value or rule at most so many characters are shown in a text."""


def cut(text: str, length: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def legible(text: str, length: int = VALUE_CHARACTERS) -> str:
    r"""A text of one line, at most so long, without characters that nobody sees or that move others.

    Line breaks, control characters, overrides of the direction of writing and halves of surrogate pairs are shown as
    escapes, such as ``\n``: they can neither end a header or a log line nor make a text read as another.
    """
    return cut("".join(one if one.isprintable() else ascii(one)[1:-1] for one in text[: length + 1]), length)


def legible_lines(text: str, length: int) -> str:
    """The same of a text that may have several lines: a rule's annotation, which its author has written."""
    lines = text[: length + 1].replace("\r\n", "\n").split("\n")
    return cut("\n".join(legible(line, length) for line in lines), length)
