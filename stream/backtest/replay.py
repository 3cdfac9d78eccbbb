"""Rules over a history: the production evaluator, window after window, and the alerts that come of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from funnelwatch.alert_rules.model import DropRule, Rules
from funnelwatch.schemas.dimensions import in_order
from funnelwatch.schemas.funnels import dimensions_of
from funnelwatch.stream.backtest.incidents import Raised
from funnelwatch.stream.detector.detector import Detector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from funnelwatch.alert_rules.model import Rule
    from funnelwatch.schemas.count_history import History
    from funnelwatch.schemas.funnels import Funnels
    from funnelwatch.stream.detector.state import Transition

SCORES = (4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0, 10.0)
"""The scores that are tried for the curve, besides those of the rules."""
MARK = "@"
"""Between the name of a rule and the score that its copy is tried at; no name of a rule has it."""


@dataclass(frozen=True, slots=True)
class Run:
    """The alerts of rules over histories."""

    alerts: list[Raised]
    """By the rules as they are, in the order of their start."""
    tried: dict[float, list[Raised]]
    """By the drop rules at another score, and all others as they are."""


def replay(
    histories: Sequence[History],
    rules: Rules,
    window_ms: int,
    span: tuple[int, int],
    *,
    declared: Funnels,
    begin: int,
    scores: Iterable[float] = (),
    told: Callable[[int], None] = lambda windows: None,
) -> Run:
    """Evaluate every window of ``span`` (start of the first, end of the last, ms) from ``begin`` on.

    What is before ``begin`` is history. ``told`` is called with the number of windows that were just taken in.
    """
    # Windows need not begin at multiples of their length since the epoch; those of the detector do.
    phase = span[0] % window_ms
    tried = sorted(set(scores)) if any(isinstance(rule, DropRule) for rule in rules.rules) else []
    alerts: list[Raised] = []
    for history in histories:
        names = dimensions_of(history.funnel, declared)
        detector = Detector(history.funnel, _with_copies(rules, history.funnel, tried), window_ms, names)
        moves: list[Transition] = []
        moved = history.moved(-phase)
        for block in moved.blocks(window_ms, span[0] - phase, begin - phase):
            detector.learn(block)
            told(len(block))
        for block in moved.blocks(window_ms, begin - phase, span[1] - phase):
            moves += detector.observe_block(block)
            told(len(block))
        alerts += raised(moves, phase)
    alerts.sort(key=lambda alert: (alert.start, alert.funnel, alert.step, *sorted(alert.dimensions.items())))
    own = [alert for alert in alerts if MARK not in alert.rule]
    fixed = {rule.alert for rule in rules.rules if not isinstance(rule, DropRule)}
    return Run(
        own,
        {
            score: [
                replace(alert, rule=alert.rule.partition(MARK)[0])
                for alert in alerts
                if alert.rule in fixed or alert.rule.endswith(f"{MARK}{score:g}")
            ]
            for score in tried
        },
    )


def _with_copies(rules: Rules, funnel: str, scores: Iterable[float]) -> Rules:
    """The rules of a funnel, and a copy of each drop rule for every score."""
    own = rules.of_funnel(funnel)
    copies: list[Rule] = [
        rule.model_copy(update={"alert": f"{rule.alert}{MARK}{score:g}", "score": score, "annotations": {}})
        for rule in own
        if isinstance(rule, DropRule)
        for score in scores
    ]
    return Rules((*own, *copies))


def raised(moves: Iterable[Transition], phase: int = 0) -> list[Raised]:
    """The alerts that transitions tell of; ``phase`` is added to their times."""
    found: dict[str, Raised] = {}
    for move in moves:
        message = move.alert
        if message is None:
            continue
        alert = found.get(message["alert_id"])
        if alert is None:
            start = message["window_start"] + phase
            alert = Raised(
                message["rule"], message["funnel"], message["step"], message["dimensions"], start, None, message, 0.0
            )
        if message["state"] == "resolved":
            alert = replace(alert, end=message["window_end"] + phase)
        else:
            alert = replace(alert, worst=max(alert.worst, message["score"]))
        found[message["alert_id"]] = alert
    return list(found.values())


def evaluated_series(histories: Iterable[History], rules: Rules) -> dict[tuple[str, ...], int]:
    """The series that alarms are counted by, and when each was first counted, ms.

    One is a combination of funnel, step, and the values of all dimensions that any rule of its funnel names in ``by``.
    """
    first: dict[tuple[str, ...], int] = {}
    for history in histories:
        own = rules.of_funnel(history.funnel)
        named = in_order(name for rule in own for level in rule.by for name in level)
        for series, began in zip(history.series, history.began().tolist(), strict=True):
            if any(rule.covers(series.step) for rule in own):
                key = (series.funnel, series.step, *map(series.value, named))
                first[key] = min(began, first.get(key, began))
    return first
