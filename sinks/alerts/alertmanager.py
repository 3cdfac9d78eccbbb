"""Alertmanager, by its API v2: ``POST /api/v2/alerts`` as Prometheus itself does.

Alertmanager knows an alert by its labels and forgets one that nobody repeats. So what fires is said again every
``resend``, each time with an ``endsAt`` of ``valid_for`` from now (Prometheus: four times its resend delay), and labels
that an alert no longer has are ended in the same request that says the new ones.
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
    """One Alertmanager, or all members of a cluster of it: each is told, as Prometheus does."""

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
            raise ValueError("valid_for: is less than twice resend: one reminder that is lost would resolve the alert")
        if bool(self.username) != bool(self.password):
            missing = "username" if self.password else "password"
            raise ValueError(f"{missing}: is missing; neither does anything without the other")
        return self

    @property
    def resend_s(self) -> float | None:
        """See the base."""
        return self.resend

    @property
    def is_repeatable(self) -> bool:
        """See the base. Alertmanager goes by the labels."""
        return True

    def deliver(self, alert: Mapping[str, Any], previous: Mapping[str, Any] | None, now_ms: int) -> DeliveryResult:
        """See the base. What fires in Alertmanager is resolved under the labels that it fires under."""
        before = None if previous is None or previous["state"] == "resolved" else self._labels(previous)
        if alert["state"] == "resolved":
            return self._post([self._resolved(alert, before or self._labels(alert), now_ms)])
        said = [self._firing(alert, now_ms)]
        if previous is not None and before is not None and before != self._labels(alert):
            said.append(self._resolved(previous, before, now_ms))
        return self._post(said)

    def remind(self, alerts: Sequence[Mapping[str, Any]], now_ms: int) -> DeliveryResult:
        """See the base."""
        answer = DeliveryResult(Outcome.SENT, "nothing fires")
        until = time.monotonic() + self.timeout
        for begin in range(0, len(alerts), AT_ONCE):
            batch = [self._firing(alert, now_ms) for alert in alerts[begin : begin + AT_ONCE]]
            answer = self._post(batch, max(until - time.monotonic(), 0.1))
            if answer.outcome is not Outcome.SENT:
                break
        return answer

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
        """Tell all members side by side: one that is slow takes no time from the others."""
        headers = {}
        if self.username:
            login = f"{self.username}:{revealed(self.password)}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(login).decode()

        def post(url: SecretStr) -> DeliveryResult:
            page = f"{revealed(url).rstrip('/')}/api/v2/alerts"
            return post_json(page, alerts, Bound(timeout_s or self.timeout), headers)

        with ThreadPoolExecutor(len(self.url)) as threads:
            answers = list(threads.map(post, self.url))
        # As Prometheus: one that has taken it tells the others of its cluster.
        return next((answer for answer in answers if answer.outcome is Outcome.SENT), answers[0])


def _label(name: str) -> str:
    """The name of a label or annotation with the characters that Alertmanager takes."""
    return re.sub(r"\W|^(?=\d)", "_", name, flags=re.ASCII)
