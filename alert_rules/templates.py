"""The texts of annotations: plain text with ``{{ field }}``, checked when the rule is loaded; nothing is executed."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from funnelwatch.schemas.texts import legible

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS = (
    "rule", "severity", "state", "reason", "funnel", "step", "scope", "os", "browser", "app_version", "basis",
    "rate", "expected_rate", "expected_low", "expected_high", "drop", "impressions", "successes", "score",
    "lost_conversions", "started_at", "window_start", "window_end", "where",
)  # fmt: skip
"""What a text may name. Rates and drop are percentages, times ISO 8601 UTC, scope is "os=iOS" or "all"."""

FIELD_CHARACTERS = 1_000

PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_]*)\s*\}\}")


def check_template(text: str) -> None:
    """Accept a text whose every placeholder is known.

    Raises:
        ValueError: one is not, or braces do not close.
    """
    for name in PLACEHOLDER.findall(text):
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"did you mean {{{{ {near[0]} }}}}?" if near else f"known are {', '.join(FIELDS)}"
            raise ValueError(f"{{{{ {name} }}}} is not a field of an alert; {hint}")
    rest = PLACEHOLDER.sub("", text)
    if "{{" in rest or "}}" in rest:
        raise ValueError("has braces that are not a placeholder")


def render(text: str, fields: Mapping[str, str]) -> str:
    """The text with its placeholders filled; a field without a value is empty.

    Line breaks and control characters of a value, which an app has sent, are shown as escapes.
    """
    return PLACEHOLDER.sub(lambda match: legible(fields.get(match[1], ""), FIELD_CHARACTERS), text)
