"""Untrusted texts, such as values of events, made safe for logs, mails and chats; pure."""

from __future__ import annotations

VALUE_CHARACTERS = 200
"""Characters of a funnel, step, value or rule in a text, at most."""


def cut(text: str, length: int) -> str:
    """The text, cut to a number of characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def legible(text: str, length: int = VALUE_CHARACTERS) -> str:
    r"""The text as one line, cut to a length, without invisible characters.

    Line breaks, control characters, overrides of the direction of writing and halves of surrogate pairs become escapes,
    such as ``\n``: they can neither end a header or a log line nor make a text look like another.
    """
    return cut("".join(one if one.isprintable() else ascii(one)[1:-1] for one in text[: length + 1]), length)


def legible_lines(text: str, length: int) -> str:
    """The same for a text that may have several lines: a rule's annotation, which its author has written."""
    lines = text[: length + 1].replace("\r\n", "\n").split("\n")
    return cut("\n".join(legible(line, length) for line in lines), length)
