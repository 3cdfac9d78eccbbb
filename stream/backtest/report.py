"""The figures of a backtest, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from funnelwatch.stream.backtest.incidents import match
from funnelwatch.stream.detector.alert import moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from funnelwatch.stream.backtest.incidents import Incident, Matches, Raised

MONTH_MS = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The evaluated windows, and the known incidents."""

    window_ms: int
    begin: int
    end: int
    series: Mapping[tuple[str, ...], int]
    """Evaluated series and since when each is counted, ms."""
    incidents: Sequence[Incident]
    left_out: Sequence[tuple[Incident, str]]
    """Incidents that are not evaluated, and why."""
    grace: int

    @property
    def series_months(self) -> float:
        """Series times months of 30 days in which each was there to be evaluated."""
        return sum(max(0, self.end - max(self.begin, since)) for since in self.series.values()) / MONTH_MS


def figures(evaluated: Evaluated, alerts: Sequence[Raised]) -> tuple[Matches, dict[str, Any]]:
    """The matches, and the figures of one set of alerts; a share or delay of nothing is None."""
    matches = match(
        alerts, evaluated.incidents, [one for one, _ in evaluated.left_out], evaluated.window_ms, evaluated.grace
    )
    false = matches.verdicts.count("false alarm")
    true = matches.verdicts.count("incident")
    delays = [one.delay_windows for one in matches.found if one.delay_windows is not None]
    months = evaluated.series_months
    return matches, {
        "alerts": len(alerts),
        "false_alarms": false,
        "false_alarms_per_series_30d": false / months if months else None,
        "incidents_detected": len(delays),
        "precision": true / (true + false) if true + false else None,
        "recall": len(delays) / len(matches.found) if matches.found else None,
        "delay_p50_windows": _quantile(delays, 0.5),
        "delay_p90_windows": _quantile(delays, 0.9),
    }


def report(evaluated: Evaluated, alerts: Sequence[Raised], tried: Mapping[float, Sequence[Raised]]) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    matches, own = figures(evaluated, alerts)
    own.pop("alerts")
    return {
        "window_s": evaluated.window_ms // 1000,
        "evaluated_from": moment(evaluated.begin),
        "evaluated_to": moment(evaluated.end),
        "series": len(evaluated.series),
        "series_months": evaluated.series_months,
        **own,
        "echoes": matches.verdicts.count("echo"),
        "incidents_evaluated": len(matches.found),
        "alerts": [
            _alert(alert, verdict, owner, evaluated.window_ms)
            for alert, verdict, owner in zip(alerts, matches.verdicts, matches.incidents, strict=True)
        ],
        "incidents": [
            {**_incident(one.incident), "detected": one.detected, "delay_windows": one.delay_windows, "alert": one.by}
            for one in matches.found
        ],
        "incidents_left_out": [{**_incident(one), "why": why} for one, why in evaluated.left_out],
        "curve": [{"score": score, **figures(evaluated, found)[1]} for score, found in sorted(tried.items())],
    }


def _alert(alert: Raised, verdict: str, owner: int | None, window_ms: int) -> dict[str, Any]:
    """One alert; ``start`` is that of the window in which it was raised, ``end`` the end of that which resolved it."""
    message = alert.message
    return {
        "start": moment(alert.start),
        "end": None if alert.end is None else moment(alert.end),
        "rule": alert.rule,
        "series": series_name(alert.scope),
        "funnel": alert.funnel,
        "step": alert.step,
        "dimensions": dict(alert.dimensions),
        "reason": message["reason"],
        "severity": message["severity"],
        "score": message["score"],
        "worst_score": alert.worst,
        "rate": message["rate"],
        "expected_rate": message["expected_rate"],
        "impressions": message["impressions"],
        "verdict": verdict,
        "incident": owner,
    }


def _incident(incident: Incident) -> dict[str, Any]:
    return {"start": moment(incident.start), "end": moment(incident.end), **incident.scope}


def series_name(scope: Mapping[str, str]) -> str:
    """A series as people write it: ``sign_up / VERIFY_SMS_CODE / os=iOS``."""
    rest = [f"{name}={value}" for name, value in scope.items() if name not in {"funnel", "step"}]
    return " / ".join([scope["funnel"], scope["step"], *rest])


def _quantile(delays: Sequence[int], share: float) -> float | None:
    """The smallest delay within which that share of those detected were."""
    return float(np.quantile(delays, share, method="inverted_cdf")) if delays else None
