"""Labels and annotations of rules: names that the alert itself sets are rejected, since the alert's own value wins."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from funnelwatch.alert_rules.templates import check_template

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What Prometheus and Alertmanager take; other characters would become underscores on their way."""

OWN_LABELS = {
    "alertname": "the rule's name",
    "alert": "the rule's name",
    "rule": "the rule's name",
    "alert_id": "the alert's id",
    "severity": "the rule's own severity, which stands beside labels",
    "funnel": "the funnel that is judged",
    "step": "the step that is judged",
    "steps": "the steps that an incident has reached",
    "series": "the series that an incident has reached",
    "os": "the os that is judged",
    "browser": "the browser that is judged",
    "app_version": "the app version that is judged",
    "state": "the alert's state",
    "reason": "the message's reason",
    "baseline": "the sign that an alert rests on less than a week",
}
"""Labels that every alert sets by itself, on its message or in Alertmanager, and what it sets them to."""

OWN_ANNOTATIONS = {
    "also_at": "the other steps of an incident",
    "dashboard": "the link that FUNNELWATCH_GRAFANA_URL makes",
}


def checked_labels(labels: dict[str, str]) -> dict[str, str]:
    """The labels of a rule, if each will be seen.

    Raises:
        ValueError: ``NAME: what is wrong``.
    """
    return _checked(labels, OWN_LABELS, check_template)


def checked_route_labels(labels: dict[str, str]) -> dict[str, str]:
    """The labels that a route adds, likewise; they are no templates."""
    return _checked(labels, OWN_LABELS, lambda _: None)


def checked_annotations(annotations: dict[str, str]) -> dict[str, str]:
    """The annotations of a rule, likewise."""
    return _checked(annotations, OWN_ANNOTATIONS, check_template)


def _checked(texts: dict[str, str], own: dict[str, str], check: Callable[[str], None]) -> dict[str, str]:
    for name, text in texts.items():
        if name in own:
            raise ValueError(f"{name}: is set by the alert itself, to {own[name]}; another name is yours")
        if not NAME.fullmatch(name) or name.startswith("__"):
            raise ValueError(f"{name}: is not a name of letters, digits and underscores")
        if not text.strip():
            raise ValueError(f"{name}: is empty, which is the same as not being there")
        try:
            check(text)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return texts
