"""The messages to a page, from what was seen: pure, and the same for everybody who asks the same.

Each message is the whole of its part, so a page that missed messages misses nothing. Times are ms since the epoch, UTC;
rates 0 to 1 or null. A text is as the events have it: the page shows it as text.
"""

from __future__ import annotations

from collections import defaultdict
from math import inf
from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.counts import CountRow
from funnelwatch.schemas.dimensions import in_order as in_order_of_display
from funnelwatch.sinks.timescale.wilson import wilson_interval
from funnelwatch.web.board.cache import of_now
from funnelwatch.web.board.query import NO_DIMENSIONS
from funnelwatch.web.board.rate_state import TOO_FEW, rate_state
from funnelwatch.web.board.windows import Windows, together

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from funnelwatch.sinks.timescale.database import Row
    from funnelwatch.web.board.cache import CachedWindows
    from funnelwatch.web.board.expected import Ordinary, Place
    from funnelwatch.web.board.query import BoardQuery
    from funnelwatch.web.board.record import History, Record
    from funnelwatch.web.board.windows import Window

Message = dict[str, Any]
DIGITS = 7
"""Decimals of a rate in a message: rounding it again for people gives the same as rounding once."""


def now_message(
    query: BoardQuery, record: Record, cache: CachedWindows | None, windows: Windows | None = None
) -> Message:
    """The funnel now: every step, and every os of it, of the newest closed windows.

    Args:
        query: what is asked.
        record: what the database returned.
        cache: the newest windows; None before they were read.
        windows: of this query, from the last time.
    """
    closed = record.closed_through.get(query.funnel)
    by_window = {} if cache is None else (windows or Windows(query)).of(cache)
    message: Message = {
        "funnel": query.funnel,
        "window_ms": record.window_ms,
        "closed_through": closed,
        "source": None if cache is None else "database" if cache.from_database else "redis",
        "uses_redis": cache is None or cache.uses_redis,
        "choices": {"funnel": sorted(record.closed_through), **_choices(query, by_window.values())},
        "steps": [],
    }
    if cache is None or closed is None:
        return message
    steps = in_order(
        {step for window in by_window.values() for step, _ in window.sums}, record.steps.get(query.funnel, ())
    )

    def least(start: int) -> int:
        return min((by_window[start].sums.get((step, None), CountRow()).impressions for step in steps), default=0)

    taken = of_now(cache.windows, closed, record.window_ms, least)
    opened = [start for start in cache.windows if start >= closed]
    now, so_far = (
        together(one for start in starts for one in by_window[start].sums.items()) for starts in (taken, opened)
    )
    history = record.histories.get(query)
    expected = {} if history is None else _newest(history, closed)
    firing = [alert for alert in record.alerts.get(query.funnel, ()) if is_firing(alert)]
    message |= {"from": min(taken, default=closed), "to": closed, "open_from": closed}
    for step in steps:
        oses = sorted({os for places in (now, so_far) for at, os in places if at == step and os is not None})
        whole = _cell(now, (step, None), expected, alerting=any(touches(one, query, step) for one in firing))
        opening = so_far.get((step, None), CountRow())
        message["steps"].append(
            {
                "step": step,
                **whole,
                "open": {"impressions": opening.impressions, "successes": opening.successes},
                "by_os": [
                    {
                        "os": os,
                        **_cell(
                            now, (step, os), expected, alerting=any(touches(one, query, step, os) for one in firing)
                        ),
                    }
                    for os in oses
                ],
            }
        )
    return message


def history_message(query: BoardQuery, record: Record) -> Message | None:
    """The time line: every step, and every os of it, span by span; None before it was read."""
    history = record.histories.get(query)
    if history is None:
        return None
    closed = record.closed_through.get(query.funnel) or 0
    counted: dict[Place, dict[int, tuple[int, int]]] = defaultdict(dict)
    for rate in history.rates:
        start = rate.start_ms or 0
        before = counted[rate.step, None].get(start, (0, 0))
        counted[rate.step, None][start] = before[0] + rate.impressions, before[1] + rate.successes
        counted[rate.step, rate.os][start] = rate.impressions, rate.successes
    order = in_order({step for step, _ in counted}, record.steps.get(query.funnel, ()))
    places = sorted(counted, key=lambda place: (order.index(place[0]), place[1] is not None, place[1] or ""))
    nothing: list[Ordinary | None] = [None] * len(history.starts)
    return {
        "starts": list(history.starts),
        "every_ms": history.every_ms,
        "partial_from": next((start for start in history.starts if start + history.every_ms > closed), None),
        "series": [
            {
                "step": step,
                "os": os,
                **_line([counted[step, os].get(start, (0, 0)) for start in history.starts]),
                "expected": [
                    None if ordinary is None else _short(ordinary.rate)
                    for ordinary in history.expected.get((step, os), nothing)
                ],
            }
            for step, os in places
        ],
    }


def alerts_message(query: BoardQuery, record: Record) -> Message:
    """The alerts, newest first, each with its where; ``known`` is false before they were read."""
    found = record.alerts.get(query.funnel)
    return {"alerts": [_alert(row) for row in found or ()], "known": found is not None}


def health_message(record: Record, ends: Mapping[int, int], errors: Mapping[str, str | None]) -> Message:
    """The pipeline: lag, watermark, throughput, dead letters, and which servers do not answer; None is not known."""
    progress, is_read = record.progress, record.at_ms > 0
    known = ends if ends and is_read and not errors.get("Kafka") else None
    return {
        "lag": None
        if known is None
        else sum(max(0, end - progress.next_offsets.get(partition, 0)) for partition, end in known.items()),
        "watermark": progress.watermark_ms,
        "idle": progress.idle,
        "per_second": progress.per_second,
        "accepted": progress.accepted if is_read else None,
        "rejected": progress.rejected if is_read else None,
        "duplicates": progress.duplicates if is_read else None,
        "recorded": record.at_ms,
        "errors": [{"server": name, "error": error} for name, error in errors.items() if error],
    }


def in_order(steps: Iterable[str], declared: Sequence[str]) -> list[str]:
    """Declared steps as declared, those without events too; then others by name."""
    return [*declared, *sorted(set(steps) - set(declared))]


def is_firing(alert: Row) -> bool:
    """Whether an alert is about conversion, and fires; an alert on missing events does not concern a rate."""
    return alert["resolved_ms"] is None and alert["basis"] != "instrumentation"


def touches(alert: Row, query: BoardQuery, step: str, os: str | None = None) -> bool:
    """Whether an alert is about a step as it is shown, or about one os of it.

    One about a step as a whole is about an os if that is where it says that the loss is.
    """
    if step != alert["step"] and step not in alert["steps"] and alert["step"] != "*":
        return False
    scope = alert["dimensions"]
    if any(scope.get(name, asked) != asked for name, asked in query.filters):
        return False
    if os is None:
        return True
    return os == (scope.get("os") or (alert["where_value"] if alert["where_dimension"] == "os" else None))


def _choices(query: BoardQuery, windows: Iterable[Window]) -> dict[str, list[str]]:
    """The choices of each filter: the values of the newest windows, and the chosen one."""
    found: dict[str, set[str]] = {name: {value} for name, value in query.filters}
    for window in windows:
        for name, values in window.values.items():
            found.setdefault(name, set()).update(values)
    return {name: sorted(found[name]) for name in in_order_of_display(found) if name not in NO_DIMENSIONS}


def _newest(history: History, closed: int) -> dict[Place, Ordinary | None]:
    """The expected rates of the newest span that begins before the rates "now" end."""
    at = max((at for at, start in enumerate(history.starts) if start < closed), default=0)
    return {place: found[at] for place, found in history.expected.items()}


def _cell(
    now: Mapping[Place, CountRow], place: Place, expected: Mapping[Place, Ordinary | None], *, alerting: bool
) -> Message:
    tally = now.get(place, CountRow())
    ordinary, strength = expected.get(place) or (None, inf)
    low, high = _interval(tally.impressions, tally.successes)
    return {
        "impressions": tally.impressions,
        "successes": tally.successes,
        "failures": tally.failures,
        "rate": _rate(tally.impressions, tally.successes),
        "low": low,
        "high": high,
        "expected": _short(ordinary),
        "state": rate_state(tally.impressions, tally.successes, ordinary, strength, alerting=alerting),
    }


def _line(counts: list[tuple[int, int]]) -> Message:
    intervals = [_interval(*one) for one in counts]
    return {
        "impressions": [impressions for impressions, _ in counts],
        "successes": [successes for _, successes in counts],
        "rate": [_rate(*one) for one in counts],
        "low": [low for low, _ in intervals],
        "high": [high for _, high in intervals],
    }


def _rate(impressions: int, successes: int) -> float | None:
    return _short(successes / impressions) if impressions >= TOO_FEW else None


def _interval(impressions: int, successes: int) -> tuple[float | None, float | None]:
    if impressions < TOO_FEW or successes > impressions:
        return None, None
    low, high = wilson_interval(successes, impressions)
    return _short(low), _short(high)


def _short(rate: float | None) -> float | None:
    return None if rate is None else round(rate, DIGITS)


def _alert(row: Row) -> Message:
    return {
        "id": row["alert_id"],
        "rule": row["rule"],
        "severity": row["severity"],
        "state": "resolved" if row["resolved_ms"] is not None else "firing",
        "reason": row["reason"],
        "basis": row["basis"],
        "step": row["step"],
        "steps": row["steps"],
        "scope": {name: row["dimensions"][name] for name in in_order_of_display(row["dimensions"])},
        "where": {"dimension": row["where_dimension"], "value": row["where_value"], "share": row["where_share"]}
        if row["where_dimension"]
        else None,
        "started": row["started_ms"],
        "fired": row["fired_ms"],
        "resolved": row["resolved_ms"],
        "rate": row["worst_rate"],
        "expected": row["expected_rate"],
        "lost": row["lost_conversions"],
        "summary": row["summary"],
        "silenced": bool(row["silenced_by"]),
    }
