"""Annotations of an alert: the first thing to check, and a link to its dashboard. Pure."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from funnelwatch.schemas.texts import legible

if TYPE_CHECKING:
    from collections.abc import Mapping

BEFORE_MS = 3_600_000
AFTER_MS = 900_000
"""The link to the panel shows this much before the incident began and after the message's window."""


def advised(alert: Mapping[str, Any], grafana_url: str) -> dict[str, Any]:
    """The message with the annotations ``look_first``, unless its rule has one, and ``dashboard``, if there is one.

    Args:
        alert: the message.
        grafana_url: address of the dashboard; empty: there is none.
    """
    annotations = {"look_first": look_first(alert), **alert["annotations"]}
    if grafana_url:
        annotations["dashboard"] = dashboard(alert, grafana_url)
    return {**alert, "annotations": annotations}


def look_first(alert: Mapping[str, Any]) -> str:
    """The first thing to check, in a sentence, by the place of the loss."""
    step = legible(alert["step"])
    narrow = dict(alert["dimensions"])
    if alert["where_dimension"]:
        narrow[alert["where_dimension"]] = alert["where_value"]
    narrow = {name: legible(value) for name, value in narrow.items()}
    # An app has sent these names, and a person pastes the command into a shell.
    named = f"--funnel {quote(legible(alert['funnel']))} --step {quote(step)}"
    see = f"`funnelwatch rate {named} --since 2h --every 5m --by "
    if version := narrow.get("app_version"):
        return f"What did app version {version} change at {step}? Its release is the first suspect. {see}app_version`"
    if browser := narrow.get("browser"):
        return f"Does {step} still work in {browser}? Try it there; look at the last front-end release. {see}browser`"
    if system := narrow.get("os"):
        return (
            f"What is different on {system}: the newest app release there, and the provider that serves it at {step}. "
            f"{see}app_version`"
        )
    if narrow:
        name, value = list(narrow.items())[-1]
        return (
            f"What is different where {name} is {value}: a release, a provider or a rule that "
            f"only it has at {step}. {see}{name}`"
        )
    if len(alert.get("steps") or []) > 1:
        return f"What do these steps share? The server, its last deploy, its database; then the network. {see}os`"
    return f"The server's side of {step}: its last deploy, its errors, the provider behind it. {see}os`"


def dashboard(alert: Mapping[str, Any], grafana_url: str) -> str:
    """A link to the dashboard at the alert's time, with its funnel, step and dimension values as variables."""
    query = {"from": alert["started_at"] - BEFORE_MS, "to": alert["window_end"] + AFTER_MS}
    about = {"funnel": alert["funnel"], "step": alert["step"], **alert["dimensions"]}
    query |= {f"var-{name}": value for name, value in about.items() if value != "*"}
    joint = "&" if "?" in grafana_url else "?"
    return f"{grafana_url}{joint}{urlencode(query, errors='replace')}"
