"""Labels and annotations of rules, and the templates of annotations: plain text with ``{{ field }}``, never executed.

Names that the alert itself sets are rejected, since the alert's own value wins.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from funnelwatch.schemas.texts import legible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Names that Prometheus and Alertmanager accept; they turn other characters into underscores."""

OWN_LABELS = {
    "alertname": "the rule's name",
    "alert": "the rule's name",
    "rule": "the rule's name",
    "alert_id": "the alert's id",
    "severity": "the rule's own severity, which is no label",
    "funnel": "the funnel that is evaluated",
    "step": "the step that is evaluated",
    "steps": "the steps that an incident has reached",
    "series": "the series that an incident has reached",
    "os": "the os that is evaluated",
    "browser": "the browser that is evaluated",
    "app_version": "the app version that is evaluated",
    "state": "the alert's state",
    "reason": "the message's reason",
    "baseline": "the mark of an alert whose baseline is shorter than a week",
}
"""Labels that every alert sets by itself, on its message or in Alertmanager, and their values."""

OWN_ANNOTATIONS = {
    "also_at": "the other steps of an incident",
    "dashboard": "the link that FUNNELWATCH_GRAFANA_URL makes",
}

FIELDS = (
    "rule", "severity", "state", "reason", "funnel", "step", "scope", "os", "browser", "app_version", "basis",
    "rate", "expected_rate", "expected_low", "expected_high", "drop", "impressions", "successes", "score",
    "lost_conversions", "started_at", "window_start", "window_end", "where",
)  # fmt: skip
"""The fields of a template. Rates and drop are percentages, times ISO 8601 UTC, scope is "os=iOS" or "all"."""

FIELD_CHARACTERS = 1_000

PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


def checked_labels(labels: dict[str, str]) -> dict[str, str]:
    """The labels of a rule, if each is valid.

    Raises:
        ValueError: ``NAME: what is wrong``.
    """
    return _checked(labels, OWN_LABELS, check_braces)


def checked_route_labels(labels: dict[str, str]) -> dict[str, str]:
    """The labels that a route adds, if each is valid; they are no templates."""
    return _checked(labels, OWN_LABELS, lambda _: None)


def checked_annotations(annotations: dict[str, str]) -> dict[str, str]:
    """The annotations of a rule, if each is valid."""
    return _checked(annotations, OWN_ANNOTATIONS, check_braces)


def _checked(texts: dict[str, str], own: dict[str, str], check: Callable[[str], None]) -> dict[str, str]:
    for name, text in texts.items():
        if name in own:
            raise ValueError(f"{name}: is set by the alert itself, to {own[name]}; another name is yours")
        if not NAME.fullmatch(name) or name.startswith("__"):
            raise ValueError(f"{name}: is not a name of letters, digits and underscores")
        if not text.strip():
            raise ValueError(f"{name}: is empty, which is the same as leaving it out")
        try:
            check(text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return texts


def check_placeholders(text: str, dimensions: Iterable[str]) -> None:
    """Accept a text whose every placeholder is a field of an alert, or one of these dimensions.

    Raises:
        ValueError: a placeholder is unknown.
    """
    known = tuple(dict.fromkeys([*FIELDS, *dimensions]))
    for name in PLACEHOLDER.findall(text):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {{{{ {near[0]} }}}}?" if near else f"known are {', '.join(known)}"
            raise ValueError(f"{{{{ {name} }}}} is not a field of an alert; {hint}")


def check_braces(text: str) -> None:
    """Accept a text whose every pair of braces is a placeholder.

    Raises:
        ValueError: braces do not close, or there is no name in them.
    """
    rest = PLACEHOLDER.sub("", text)
    if "{{" in rest or "}}" in rest:
        raise ValueError("has braces that are not a placeholder")


def render(text: str, fields: Mapping[str, str]) -> str:
    """The text with its placeholders filled; a field without a value is empty.

    Line breaks and control characters of a value, which an app has sent, are shown as escapes.
    """
    return PLACEHOLDER.sub(lambda match: legible(fields.get(match[1], ""), FIELD_CHARACTERS), text)
