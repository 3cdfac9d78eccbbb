"""An alert in words, for people who read it in a mail, a chat or a pager; pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.texts import legible, legible_lines

if TYPE_CHECKING:
    from collections.abc import Mapping


TEXT_CHARACTERS = 4_000
LINK_CHARACTERS = 2_000


def moment(ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339, UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def scope(alert: Mapping[str, Any]) -> str:
    """The series of the alert: ``sign_up VERIFY_SMS_CODE os=iOS``."""
    steps = "+".join(map(legible, alert["steps"])) or legible(alert["step"])
    about = [f"{legible(name)}={legible(value)}" for name, value in sorted(alert["dimensions"].items())]
    return " ".join(part for part in (legible(alert["funnel"]), steps, *about) if part != "*") or "the pipeline"


def headline(alert: Mapping[str, Any]) -> str:
    """One line with state, severity, rule, scope, and the rate against the expected rate."""
    state = "RESOLVED" if alert["state"] == "resolved" else f"FIRING {legible(alert['severity'])}"
    numbers = f": {alert['rate']:.1%}, expected {alert['expected_rate']:.1%}" if is_about_rates(alert) else ""
    return f"{state} {legible(alert['rule'])} {scope(alert)}{numbers}"


def is_about_rates(alert: Mapping[str, Any]) -> bool:
    """Whether its rates are conversion rates; an instrumentation alert's are not."""
    return bool(alert["basis"] != "instrumentation")


def shown_as(alert: Mapping[str, Any]) -> str:
    """The name of what its rate is a share of: on the session basis, each session counts once."""
    return "sessions" if alert["basis"] == "session" else "impressions"


def summary(alert: Mapping[str, Any]) -> str:
    """The rule's own sentence, or the headline where it has none."""
    return annotation(alert, "summary") or headline(alert)


def annotation(alert: Mapping[str, Any], name: str) -> str:
    """One of its annotations, which may have several lines; empty where it has none of this name."""
    return legible_lines(str(alert["annotations"].get(name) or ""), TEXT_CHARACTERS)


def details(alert: Mapping[str, Any]) -> dict[str, str]:
    """Name to value of what a person may want to know, in the order in which it is shown."""
    found = {
        "reason": legible(alert["reason"]),
        "since": moment(alert["started_at"]),
        "window": moment(alert["window_start"]),
    }
    if is_about_rates(alert):
        found |= {
            "rate": f"{alert['rate']:.2%}",
            "expected": f"{alert['expected_rate']:.2%} ({alert['expected_low']:.2%} to {alert['expected_high']:.2%})",
            shown_as(alert): f"{alert['impressions']}",
            "successes": f"{alert['successes']}",
            "lost conversions": f"{alert['lost_conversions']:.0f}",
        }
        if alert["where_dimension"]:
            share = f"{alert['where_share']:.0%} of the loss"
            found["where"] = f"{legible(alert['where_dimension'])}={legible(alert['where_value'])} ({share})"
    found["alert_id"] = legible(alert["alert_id"])
    return found


def link(alert: Mapping[str, Any]) -> str:
    """The panel that shows it; empty where ``FUNNELWATCH_GRAFANA_URL`` is not set."""
    return legible(str(alert["annotations"].get("dashboard") or ""), LINK_CHARACTERS)
