"""Corrections: late data changes a window that an alert was about, and the alert's numbers with it; pure.

The published numbers are kept with the alert's state, and the counts of each window of the evaluated span. A revision
of one of these windows is compared with the published numbers, not with what happens to be in memory, so that a replay
of the closed windows gives the same corrections, and the same revision again gives none.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from funnelwatch.stream.detector.evaluation import Evaluation
from funnelwatch.stream.detector.scan import deviance_root
from funnelwatch.stream.detector.scope import Where
from funnelwatch.stream.detector.state import AlertState, Reason, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from funnelwatch.alert_rules.model import Rule

CHANGED_DROP = 0.2
"""A correction is published when the drop differs by this share of the published one,"""
CHANGED_VOLUME = 0.5
"""or the impressions by this share, or when the outcome is another one."""
MAX_PUBLISHED = 240
"""So many windows of a span are remembered; those before them are not corrected."""


def remember_published(  # noqa: PLR0917
    state: AlertState,
    evaluation: Evaluation,
    window: int,
    counts: Sequence[tuple[float, float]],
    lost: float,
    where: Where,
) -> AlertState:
    """The state, with the numbers of the message that is about to be published.

    Args:
        state: whose message is about to be published.
        evaluation: the numbers of the message.
        window: start of its window.
        counts: impressions and successes of each window of the evaluated span, the last one that of the message.
        lost: conversions lost, as published.
        where: what explains them, as published.
    """
    kept = {
        "alert_id": state.alert_id,
        "window": window,
        "counts": [[n, x, 0] for n, x in counts[-MAX_PUBLISHED:]],
        "evaluation": asdict(evaluation),
        "lost": lost,
        "where": asdict(where),
        "stands": True,
    }
    return state.but(payload={**state.payload, "published": kept, "late": {}})


def corrected(  # noqa: PLR0917
    rule: Rule, state: AlertState, window: int, length: int, revision: int, n: float, x: float
) -> tuple[AlertState, bool]:
    """The state after a window is known to have other counts, and whether to publish them.

    Args:
        rule: whose alert it is.
        state: of the alert.
        window: start of the revised window.
        length: of a window, ms.
        revision: its number; one that was taken in already changes nothing.
        n: impressions of the window now.
        x: successes of the window now.

    Returns:
        The same state where the alert was not about the window. Else the published numbers are updated once the
        change is to be published; small changes add up until then. An alert that the new numbers would not
        have given counts as recovered, and resolves with the next windows unless they alarm.
    """
    kept: dict[str, Any] | None = state.payload.get("published")
    if not kept or kept["alert_id"] != state.alert_id or state.state is State.PENDING:
        return state, False
    place = (window - kept["window"]) // length + len(kept["counts"]) - 1
    if not 0 <= place < len(kept["counts"]) or kept["counts"][place][2] >= revision:
        return state, False
    pending = dict(state.payload.get("late", {}))
    if str(window) in pending and pending[str(window)][2] >= revision:
        return state, False
    pending[str(window)] = [n, x, revision]
    before = Evaluation(**kept["evaluation"])
    evaluation, lost = _with(before, kept, pending, length)
    stands = _stands(rule, before, evaluation)
    if stands == kept["stands"] and not _material(before, evaluation):
        return state.but(payload={**state.payload, "late": pending}), False
    counts = [list(one) for one in kept["counts"]]
    for start, now in pending.items():
        counts[(int(start) - kept["window"]) // length - 1] = now
    # The score is scaled from the first one on, so what it is scaled by stays the same however often it is corrected.
    kept = {**kept, "counts": counts, "evaluation": asdict(evaluation), "lost": lost, "stands": stands}
    payload = {**state.payload, "published": kept, "late": {}}
    if not stands and state.state in {State.FIRING, State.NO_DATA}:
        payload |= {"recovered_at": state.last_window, "since": kept["window"] + length}
    after = state.but(sequence=state.sequence + 1, reason=Reason.CORRECTED, payload=payload)
    return after, True


def published_numbers(state: AlertState) -> tuple[int, Evaluation, float, Where]:
    """Window, numbers, lost conversions and the place of the loss, of the last message, as corrected."""
    kept = state.payload["published"]
    return kept["window"], Evaluation(**kept["evaluation"]), kept["lost"], Where(**kept["where"])


def _with(
    before: Evaluation, kept: dict[str, Any], pending: dict[str, list[float]], length: int
) -> tuple[Evaluation, float]:
    """The numbers with the late counts in them; the ordinary rate stays what it was held against."""
    more_n = more_x = 0.0
    for start, (n, x, _) in pending.items():
        old = kept["counts"][(int(start) - kept["window"]) // length - 1]
        more_n, more_x = more_n + n - old[0], more_x + x - old[1]
    rate = before.expected / max(before.impressions, 1e-12)
    n, x = max(before.impressions + more_n, 0.0), max(before.successes + more_x, 0.0)
    evaluation = replace(before, impressions=n, successes=x, expected=n * rate)
    scale = before.score / max(_root(before), 1e-9) if before.score > 0 else 0.0
    return replace(evaluation, score=scale * _root(evaluation)), max(kept["lost"] + more_n * rate - more_x, 0.0)


def _root(evaluation: Evaluation) -> float:
    """The signed root of the binomial deviance, at least a little above 0, so that a score can be scaled by it."""
    n = np.array([max(evaluation.impressions, 1.0)])
    expected = np.clip(np.array([evaluation.expected]), 1e-9, n * (1.0 - 1e-9))
    return max(float(deviance_root(np.array([min(evaluation.successes, float(n[0]))]), n, expected)[0]), 1e-6)


def _stands(rule: Rule, before: Evaluation, now: Evaluation) -> bool:
    """Whether these numbers would have given the alert."""
    if rule.kind != "drop":
        return now.impressions > 0 and now.successes / now.impressions < before.low
    return now.drop >= rule.min_drop and now.score > rule.score


def _material(before: Evaluation, now: Evaluation) -> bool:
    """Whether a person who read the numbers before should read those now."""
    drop = abs(now.drop - before.drop) >= CHANGED_DROP * max(before.drop, 1e-12)
    return drop or abs(now.impressions - before.impressions) >= CHANGED_VOLUME * before.impressions
