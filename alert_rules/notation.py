"""Values of consecutive windows in the notation of promtool's unit tests.

``a`` is one value, ``_`` an absent one. ``axn`` is a and n more of it; ``a+bxn`` and ``a-bxn`` are a and n more that
grow or shrink by b each; ``_xn`` is n absent ones. Values are separated by spaces: ``200x4 200-50x2 _x3 0``.
"""

from __future__ import annotations

import re

NUMBER = r"\d+(?:\.\d+)?"
PART = re.compile(
    rf"(?P<absent>_)(?:x(?P<gap>\d{{1,9}}))?|(?P<first>{NUMBER})(?:(?P<step>[+-]{NUMBER})?x(?P<more>\d{{1,9}}))?",
    re.ASCII,
)
MOST = 100_000
LARGEST = 1e12


def expand(text: object) -> tuple[float | None, ...]:
    """The values; None where one is absent.

    Raises:
        ValueError: the text is not in this notation.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError(f"{text!r} is no list of values")  # noqa: TRY004 - pydantic turns ValueErrors into its own
    values: list[float | None] = []
    for part in str(text).split():
        match = PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is no value")
        if len(values) + int(match["gap"] or match["more"] or 0) >= MOST:
            raise ValueError(f"{part!r}: more than {MOST:,} values")
        if match["absent"]:
            values += [None] * int(match["gap"] or 1)
        else:
            first, step = float(match["first"]), float(match["step"] or 0)
            values += [first + step * number for number in range(int(match["more"] or 0) + 1)]
    if any(value is not None and value > LARGEST for value in values):
        raise ValueError(f"a value is above {LARGEST:,.0f}")
    if any(value is not None and value < 0 for value in values):
        raise ValueError("a value is below 0")
    return tuple(values)
