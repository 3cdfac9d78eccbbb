"""Alertmanager, by its API v2: ``POST /api/v2/alerts`` as Prometheus itself does.

Alertmanager identifies an alert by its labels and forgets an alert that is not repeated. So the receiver repeats firing
alerts every ``resend``, each time with an ``endsAt`` of ``valid_for`` from now (Prometheus: four times its resend
delay). If the labels of an alert change, one request ends the alert with the old labels and sends the new ones.
https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping, Sequence  # noqa: TC003
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from funnelwatch.alert_rules.labels import checked_route_labels
from funnelwatch.schemas.plain_values import Line  # noqa: TC001 - pydantic looks at it
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.texts import legible, legible_lines
from funnelwatch.sinks.alerts.bound import Bound
from funnelwatch.sinks.alerts.delivery import DeliveryResult, Outcome, post_json
from funnelwatch.sinks.alerts.receiver import Address, Filter, Receiver, Secret, Span
from funnelwatch.sinks.alerts.texts import TEXT_CHARACTERS, headline, link, moment, summary

AT_ONCE = 500
"""Alerts in one request of a reminder."""

LABEL_CHARACTERS = 1_000


class Alertmanager(Receiver):
    """One Alertmanager, or all members of its cluster; sends to each member, as Prometheus does."""

    kind: Literal["alertmanager"]
    url: Annotated[list[Address], *Filter] = Field(
        description="an address such as http://alertmanager:9093, or a list of all of a cluster"
    )
    username: Line = Field("", description="a user's name, for basic authentication")
    password: Secret = Field(SecretStr(""), description="their password")
    labels: Annotated[dict[str, str], AfterValidator(checked_route_labels)] = Field(
        {}, description="a map of labels that every alert gets, such as {team: growth}"
    )
    resend: Span = Field(60.0, ge=1, description="a span such as 1m")
    valid_for: Span = Field(300.0, le=366 * 86_400, description="a span such as 5m")

    @model_validator(mode="after")
    def _outlives_a_reminder(self) -> Self:
        if self.valid_for < 2 * self.resend:
            raise ValueError("valid_for: is less than twice resend: one lost reminder would resolve the alert")
        if bool(self.username) != bool(self.password):
            missing = "username" if self.password else "password"
            raise ValueError(f"{missing}: is missing; each needs the other")
        return self

    @property
    def resend_s(self) -> float | None:
        """See the base."""
        return self.resend

    @property
    def is_repeatable(self) -> bool:
        """See the base. Alertmanager identifies an alert by its labels."""
        return True

    def deliver(self, alert: Mapping[str, Any], previous: Mapping[str, Any] | None, now_ms: int) -> DeliveryResult:
        """See the base. An alert is resolved under the labels under which it fires."""
        before = None if previous is None or previous["state"] == "resolved" else self._labels(previous)
        if alert["state"] == "resolved":
            return self._post([self._resolved(alert, before or self._labels(alert), now_ms)])
        records = [self._firing(alert, now_ms)]
        if previous is not None and before is not None and before != self._labels(alert):
            records.append(self._resolved(previous, before, now_ms))
        return self._post(records)

    def remind(self, alerts: Sequence[Mapping[str, Any]], now_ms: int) -> DeliveryResult:
        """See the base."""
        result = DeliveryResult(Outcome.SENT, "nothing fires")
        until = time.monotonic() + self.timeout
        for begin in range(0, len(alerts), AT_ONCE):
            batch = [self._firing(alert, now_ms) for alert in alerts[begin : begin + AT_ONCE]]
            result = self._post(batch, max(until - time.monotonic(), 0.1))
            if result.outcome is not Outcome.SENT:
                break
        return result

    def _labels(self, alert: Mapping[str, Any]) -> dict[str, str]:
        labels = {
            **alert["labels"],
            **alert["dimensions"],
            **self.labels,
            "alertname": alert["rule"],
            "alert_id": alert["alert_id"],
            "severity": alert["severity"],
            "funnel": alert["funnel"],
            "step": alert["step"],
        }
        return {_label(name): legible(value, LABEL_CHARACTERS) for name, value in labels.items() if value}

    def _firing(self, alert: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
        return self._record(alert, self._labels(alert), now_ms + int(self.valid_for * 1000))

    def _resolved(self, alert: Mapping[str, Any], labels: Mapping[str, str], now_ms: int) -> dict[str, Any]:
        return self._record(alert, labels, max(min(alert["window_end"], now_ms), alert["started_at"] + 1))

    def _record(self, alert: Mapping[str, Any], labels: Mapping[str, str], ends_at: int) -> dict[str, Any]:
        texts = {"summary": summary(alert), "description": headline(alert), **alert["annotations"]}
        record = {
            "labels": dict(labels),
            "annotations": {_label(name): legible_lines(text, TEXT_CHARACTERS) for name, text in texts.items()},
            "startsAt": moment(alert["started_at"]),
            "endsAt": moment(ends_at),
        }
        return record | ({"generatorURL": link(alert)} if link(alert) else {})

    def _post(self, alerts: list[dict[str, Any]], timeout_s: float | None = None) -> DeliveryResult:
        """Send to all members in parallel, so that a slow member does not delay the others."""
        headers = {}
        if self.username:
            login = f"{self.username}:{revealed(self.password)}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(login).decode()

        def post(url: SecretStr) -> DeliveryResult:
            page = f"{revealed(url).rstrip('/')}/api/v2/alerts"
            return post_json(page, alerts, Bound(timeout_s or self.timeout), headers)

        with ThreadPoolExecutor(len(self.url)) as threads:
            results = list(threads.map(post, self.url))
        # As Prometheus: a member that has the alerts passes them on to its cluster.
        return next((result for result in results if result.outcome is Outcome.SENT), results[0])


def _label(name: str) -> str:
    """The name of a label or annotation, without characters that Alertmanager rejects."""
    return re.sub(r"\W|^(?=\d)", "_", name, flags=re.ASCII)
