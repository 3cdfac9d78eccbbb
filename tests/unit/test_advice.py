"""An alert says what to look at first and where to see it."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from funnelwatch.stream.detector.advice import advised

HOUR = 3_600_000


def alert(**changes: Any) -> dict[str, Any]:
    """What the advice looks at."""
    return {
        "funnel": "sign_up", "step": "VERIFY", "dimensions": {}, "where_dimension": "", "where_value": "", "steps": [],
        "started_at": 10 * HOUR, "window_end": 11 * HOUR, "annotations": {},
    } | changes  # fmt: skip


ADVICE: dict[str, tuple[dict[str, Any], str]] = {
    "one step, everywhere": ({}, "The server's side of VERIFY"),
    "several steps": ({"steps": ["NAME", "VERIFY"]}, "What do these steps share?"),
    "one os": ({"dimensions": {"os": "iOS"}}, "What is different on iOS"),
    "an os that explains it": ({"where_dimension": "os", "where_value": "iOS"}, "What is different on iOS"),
    "a browser": ({"where_dimension": "browser", "where_value": "Safari"}, "Does VERIFY still work in Safari?"),
    "a version": (
        {"dimensions": {"os": "iOS"}, "where_dimension": "app_version", "where_value": "7.2"},
        "What did app version 7.2 change at VERIFY?",
    ),
    "a dimension of its own": ({"dimensions": {"country": "DE"}}, "What is different where country is DE"),
    "a rule that knows better": ({"annotations": {"look_first": "Call the provider."}}, "Call the provider."),
}


@pytest.mark.parametrize("name", ADVICE)
def test_an_alert_says_what_to_look_at_first(name: str) -> None:
    """By the narrowest thing that the loss was traced to."""
    changes, begins = ADVICE[name]

    assert advised(alert(**changes), "")["annotations"]["look_first"].startswith(begins)


def test_the_link_shows_the_dashboard_at_the_time_of_the_alert() -> None:
    """From an hour before it began, with what it is about as variables; without an address there is no link."""
    made = advised(alert(dimensions={"os": "iOS & co"}), "https://grafana.example/d/funnel?orgId=1")
    link = urlsplit(made["annotations"]["dashboard"])

    assert parse_qs(link.query) == {
        "orgId": ["1"],
        "from": [str(9 * HOUR)],
        "to": [str(11 * HOUR + 900_000)],
        "var-funnel": ["sign_up"],
        "var-step": ["VERIFY"],
        "var-os": ["iOS & co"],
    }
    assert "dashboard" not in advised(alert(), "")["annotations"]


def test_the_link_of_what_is_about_everything_names_nothing() -> None:
    """``*`` is no value of a variable."""
    made = advised(alert(funnel="*", step="*"), "https://grafana.example/d/funnel")

    assert "var-" not in made["annotations"]["dashboard"]


def test_a_command_to_paste_into_a_shell_runs_nothing_that_an_app_has_named() -> None:
    """The names come from events; line breaks and control characters of them are shown as escapes."""
    made = advised(alert(funnel="f; reboot #", step="A$(reboot)\n`reboot`"), "")["annotations"]["look_first"]

    assert "--funnel 'f; reboot #' --step 'A$(reboot)\\n`reboot`' --since" in made
    assert made.isprintable()
