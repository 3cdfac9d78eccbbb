"""The results as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.report.cases import DROPS, FALSE_LIMITS, SCORE, SCORES, TARGETS
from tests.report.people import CHOICES, KINDS, TYPICAL, Choice
from tests.report.people import DROPS as PEOPLE_DROPS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.report.people import Compared
    from tests.report.simulate import Results

ONE_A_MONTH = 1.0


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def windows(delay: float) -> str:
    """A delay as text."""
    return f"{delay:.0f}" if np.isfinite(delay) else "never"


def targets(results: Results) -> str:
    """Every target, what was measured, and whether it is met."""
    rows = []
    for name, limit in FALSE_LIMITS.items():
        found = results.false[name][SCORE]
        rows.append(
            [f"false alarms per series in 30 days, {name}/min", f"≤ {limit}", f"{found:.2f}", met(found <= limit)]
        )
    for one in TARGETS:
        late = results.delays[one.scenario, one.drop, SCORE]
        if one.windows:
            found = late.within(one.windows)
            rows.append(
                [f"{one.text}, {one.scenario}/min", f"≥ {one.limit:.0%}", f"{found:.1%}", met(found >= one.limit)]
            )
        else:
            found = late.quantile(one.quantile)
            rows.append(
                [
                    f"{one.text}, {one.scenario}/min",
                    f"≤ {one.limit:.0f} windows",
                    windows(found),
                    met(found <= one.limit),
                ]
            )
    for basis, limit in (("window", 5), ("cohort", 3)):
        false, late = results.bursts[basis]
        found = late.quantile(0.5)
        rows.append([f"bursts, {basis} basis: false alarms a week", "≤ 0.4", f"{false:.2f}", met(false <= 0.4)])
        rows.append([f"bursts, {basis} basis: 30% drop, median", f"≤ {limit}", windows(found), met(found <= limit)])
    return table(["target", "goal", "measured", ""], rows)


def met(yes: bool) -> str:
    """Said so that it can be searched for."""
    return "met" if yes else "**missed**"


def scores(results: Results) -> str:
    """What a score costs and brings."""
    head = ["score", *(f"false, {name}/min" for name in FALSE_LIMITS)]
    head += [f"{kind}, {name}/min" for name in FALSE_LIMITS for kind in DROPS]
    rows = []
    for score in SCORES:
        row = [f"{score:g}", *(f"{results.false[name][score]:.2f}" for name in FALSE_LIMITS)]
        for name in FALSE_LIMITS:
            for kind in DROPS:
                late = results.delays[name, kind, score]
                row.append(f"{windows(late.quantile(0.5))} / {windows(late.quantile(0.9))}")
        rows.append(row)
    return table(head, rows)


def rivals(results: Results) -> str:
    """The usual rules: false alarms as they are written, and what they catch when allowed one false alarm a month."""
    rows = []
    for name, curve in results.rivals.items():
        quiet = [point for point in curve if point[0] <= ONE_A_MONTH]
        best = max(quiet, key=lambda point: point[1]) if quiet else (0.0, 0.0, np.inf)
        thick, thin = results.usual[name]
        rows.append([name, f"{thick:.1f} · {thin:.1f}", f"{best[1]:.0%}", windows(best[2])])
    late = results.delays["200", DROPS[2], SCORE]
    rows.append([
        f"**funnelwatch, score {SCORE}**", f"**{results.false['200'][SCORE]:.2f} · {results.false['15'][SCORE]:.2f}**",
        f"**{late.within(5):.0%}**", f"**{windows(late.quantile(0.5))}**",
    ])  # fmt: skip
    head = [
        "rule",
        "false alarms per series in 30 days, 200 · 15 a minute",
        "20% drops caught within 5 windows*",
        "median*",
    ]
    return table(head, rows)


def beyond(results: Results) -> str:
    """False alarms in other scenarios."""
    rows = [[name, f"{false:.2f}"] for name, false in results.beyond.items()]
    return table(["scenario", "false alarms per series in 30 days"], rows)


def people(found: Compared) -> str:
    """What each basis costs in false alarms and delay, and the bases at equal delay."""
    shown = [
        one for one in CHOICES if one.score == SCORE or (one.basis, one.maturity) in {("window", 2), ("session", 2)}
    ]
    rows = [
        [
            f"{one.basis}, {one.score:g}" + (f", {one.maturity} min" if one.behind else ""),
            *(f"{found.false[one, kind.name]:.1f}" for kind in KINDS),
            *(f"{windows(late.quantile(0.5))} / {windows(late.quantile(0.9))}" for late in found.lates(one)),
        ]
        for one in shown
    ]
    head = ["basis, score, maturity", *(kind.name for kind in KINDS), *(f"{drop} drop, min" for drop in PEOPLE_DROPS)]
    usual = Choice("window", 2, SCORE)
    other = found.equally_late(usual, "session", 2)
    said = [f"{found.false[one, kind.name]:.1f}" for kind in KINDS[1:4] for one in (usual, other)]
    return (
        f"{table(head, rows)}\n\nAt equal delay (the median of a {TYPICAL} drop is at most that of the window basis): "
        f"under reloads, retries and bots with one id, sessions at score {other.score:g} raise {said[1]}, {said[3]} "
        f"and {said[5]} false alarms, windows at {SCORE:g} raise {said[0]}, {said[2]} and {said[4]}."
    )


def stays(results: Results) -> str:
    """A drop that stays."""
    series, once, number, resolved = results.shift
    return (
        f"A drop of 15% that stays for five weeks, in {series} series: {once} were told exactly once, {number} alerts "
        f"in all, {resolved} of them resolved by the end, when past weeks had come to contain it."
    )
