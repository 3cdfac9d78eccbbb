"""The alert message: the fields of ``schemas/alert.avsc`` from a state and what was seen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from funnelwatch.alert_rules.labels import render
from funnelwatch.alert_rules.model import BaseRule, NamedRule
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS
from funnelwatch.stream.detector.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from funnelwatch.stream.detector.evaluation import Evaluation
    from funnelwatch.stream.detector.scope import Where
    from funnelwatch.stream.detector.state import AlertState


def alert_message(  # noqa: PLR0917
    rule: NamedRule, state: AlertState, evaluation: Evaluation, start: int, end: int, lost: float, where: Where
) -> dict[str, Any]:
    """One message; times are milliseconds since the epoch, UTC.

    ``expected_low`` and ``expected_high`` enclose three ordinary deviations (chance, overdispersion and the doubt about
    the baseline) to each side of the expected rate; for threshold and change rules, from the limit up to 1.
    """
    n = max(evaluation.impressions, 1e-12)
    message: dict[str, Any] = {
        "alert_id": state.alert_id,
        "sequence": state.sequence,
        "state": "resolved" if state.state is State.RESOLVED else "firing",
        "reason": str(state.reason),
        "rule": rule.alert,
        "rule_version": rule.version,
        "severity": severity(rule, evaluation),
        "funnel": state.funnel,
        "step": state.step,
        "dimensions": dict(state.dimensions),
        "basis": rule.basis if isinstance(rule, BaseRule) else "instrumentation",
        "window_start": start,
        "window_end": end,
        "started_at": state.started_at,
        "rate": min(evaluation.successes / n, 1.0),
        "expected_rate": evaluation.expected / n,
        "expected_low": evaluation.low,
        "expected_high": evaluation.high,
        "impressions": round(evaluation.impressions),
        "successes": round(evaluation.successes),
        "score": evaluation.score,
        "lost_conversions": lost,
        "where_dimension": where.dimension,
        "where_value": where.value,
        "where_share": where.share,
        "steps": [],
        "series": [],
        "silenced_by": "",
    }
    fields = texts(message, evaluation, rule.dimensions)
    message["labels"] = {name: render(text, fields) for name, text in rule.labels.items()}
    if evaluation.recent_baseline:
        message["labels"].setdefault("baseline", "recent")
    message["annotations"] = {name: render(text, fields) for name, text in rule.annotations.items()}
    return message


def severity(rule: NamedRule, evaluation: Evaluation) -> str:
    """The rule's severity; at most a warning while under a week of history is known (DETECTION.md, step 7)."""
    return "warning" if evaluation.recent_baseline and rule.severity == "critical" else rule.severity


def moment(ms: int) -> str:
    """Milliseconds since the epoch as ISO 8601, UTC."""
    return datetime.fromtimestamp(ms / 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def texts(message: dict[str, Any], evaluation: Evaluation, named: Iterable[str]) -> dict[str, str]:
    """The fields that annotations may name, as text (``funnelwatch.alert_rules.labels.FIELDS``).

    Args:
        message: the message.
        evaluation: the evaluation that it reports.
        named: the dimensions of the rule; one that the alert is not about is "any". None replaces another field.
    """
    dimensions = message["dimensions"]
    where = f"{message['where_dimension']}={message['where_value']} ({message['where_share']:.0%} of the loss)"
    return {
        **dict.fromkeys([*DIMENSION_FIELDS, *named], "any"),
        **dimensions,
        **{name: str(value) for name, value in message.items()},
        **{name: f"{message[name]:.1%}" for name in ("rate", "expected_rate", "expected_low", "expected_high")},
        **{name: moment(message[name]) for name in ("started_at", "window_start", "window_end")},
        "scope": ", ".join(f"{name}={value}" for name, value in dimensions.items()) or "all",
        "drop": f"{max(evaluation.drop, 0.0):.1%}",
        "score": f"{message['score']:.1f}",
        "lost_conversions": f"{message['lost_conversions']:.0f}",
        "where": where if message["where_dimension"] else "no single value of a dimension",
    }
