"""Many independent series through the production detector at once, each as a column of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from funnelwatch.alert_rules.loader import parse_rules
from funnelwatch.alert_rules.model import Rules
from funnelwatch.schemas.count_block import Block
from funnelwatch.schemas.counts import Series
from funnelwatch.stream.detector.detector import Detector
from tests.report.scenario import MONDAY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from funnelwatch.schemas.arrays import Ints
    from tests.report.scenario import Drawn, Scenario

Name = TypeVar("Name")

RULE = """
groups:
  - name: report
    rules:
{rules}
"""
BLOCK_ROWS = 1440
ONE = """
      - {{alert: Score{number}, step: all, by: [[os, browser, app_version]], basis: {basis}, maturity: {maturity},
         score: {score}, min_drop: 0.05, min_impressions: 8, keep_firing_for: 1m}}
"""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A rule began to fire on a series when it evaluated a window; ``end`` is the window it resolved in, -1: never."""

    series: int
    row: int
    end: int
    score: float
    scale: int


def run(
    scenario: Scenario, drawn: Drawn, scores: list[float], basis: str = "window", maturity: str = "2m"
) -> dict[float, list[Alarm]]:
    """The alarms in the evaluated windows, by score.

    Every series is a step of its own, so that none lends the others its estimate of noise.
    """
    return alarms_of(scenario, blocks(scenario, drawn), {score: (score, basis, maturity) for score in scores})


def alarms_of(
    scenario: Scenario, taken: Iterable[tuple[int, Block]], wanted: Mapping[Name, tuple[float, str, str]]
) -> dict[Name, list[Alarm]]:
    """The alarms in the evaluated windows of some blocks, by the name of a rule: its score, basis and maturity."""
    text = "".join(
        ONE.format(number=number, score=score, basis=basis, maturity=maturity)
        for number, (score, basis, maturity) in enumerate(wanted.values())
    )
    rules = parse_rules(RULE.format(rules=text))
    detector = Detector("f", Rules(tuple(rules)), scenario.window_ms)
    names = {rule.alert: name for rule, name in zip(rules, wanted, strict=True)}
    found: dict[Name, list[Alarm]] = {name: [] for name in wanted}
    burning: dict[tuple[str, str], int] = {}
    for begin, block in taken:
        if begin < scenario.history:
            detector.learn(block)
            continue
        for change in detector.observe_block(block):
            alert = change.alert
            if alert is None:
                continue
            key, alarms = (str(alert["rule"]), str(alert["step"])), found[names[str(alert["rule"])]]
            row = (int(alert["window_start"]) - MONDAY) // scenario.window_ms
            if alert["sequence"] == 0:
                burning[key] = len(alarms)
                length = (int(alert["window_end"]) - int(alert["started_at"])) // scenario.window_ms
                alarms.append(Alarm(int(key[1]), row, -1, float(alert["score"]), length))
            if alert["state"] == "resolved":
                place = burning.pop(key)
                alarms[place] = replace(alarms[place], end=row)
    return found


def blocks(scenario: Scenario, drawn: Drawn) -> Iterator[tuple[int, Block]]:
    """The counts as the detector takes them in, some windows at a time, with the first window of each block."""
    n, x, cohort = drawn.impressions, drawn.successes, drawn.cohort
    return blocks_of(scenario, [n, x, np.zeros_like(n), cohort, n - cohort])


def blocks_of(scenario: Scenario, columns: Sequence[Ints]) -> Iterator[tuple[int, Block]]:
    """The same of the first fields of a CountRow, each of shape (rows, series)."""
    series = [
        Series.of("f", f"{number:05}", os="os", browser="browser", app_version="version")
        for number in range(columns[0].shape[1])
    ]
    cuts = sorted({*range(0, scenario.rows, BLOCK_ROWS), scenario.history, scenario.rows})
    for begin, end in pairwise(cuts):
        tallies = np.stack([values[begin:end] for values in columns], axis=2)
        yield begin, Block.dense(MONDAY + begin * scenario.window_ms, series, tallies)
