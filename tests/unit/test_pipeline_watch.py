"""Dead letters, silent partitions and stuck watermarks: look by look, with what must not be said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from funnelwatch.alert_rules.instruments import instruments
from funnelwatch.alert_rules.loader import load_rules
from funnelwatch.schemas.pipeline import PartitionSnapshot, PipelineSnapshot
from funnelwatch.stream.detector.evaluation import Evaluation
from funnelwatch.stream.detector.instrument import explained, firing
from funnelwatch.stream.detector.pipeline import PipelineEvaluator
from funnelwatch.stream.detector.state import AlertState, State

if TYPE_CHECKING:
    from collections.abc import Callable

RULES = instruments(load_rules(None), "*")
MINUTE = 60_000
STEP = 10_000
T = 1_700_000_000_000 // MINUTE * MINUTE


@dataclass
class Flow:
    """A partition gets these every ten seconds: records, rejected ones, those of undeclared funnels; or it is idle."""

    records: float = 100.0
    rejected: float = 0.0
    idle: bool = False
    undeclared: float = 0.0


@dataclass
class Scenario:
    """A topic of four partitions, and what is said about it."""

    watch: PipelineEvaluator = field(default_factory=lambda: PipelineEvaluator(RULES, []))
    counted: dict[int, float] = field(default_factory=lambda: dict.fromkeys(range(4), 0.0))
    rejected: dict[int, float] = field(default_factory=lambda: dict.fromkeys(range(4), 0.0))
    undeclared: dict[int, float] = field(default_factory=lambda: dict.fromkeys(range(4), 0.0))
    now: int = T
    kept: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def go(self, minutes: float, flow: Callable[[int], Flow], *, looks: bool = True) -> Scenario:
        """Let time pass."""
        for _ in range(round(minutes * MINUTE / STEP)):
            self.now += STEP
            partitions = {}
            for number in self.counted:
                one = flow(number)
                self.counted[number] += one.records - one.rejected
                self.rejected[number] += one.rejected
                self.undeclared[number] += one.undeclared
                both = round(self.counted[number]) + round(self.rejected[number])
                partitions[number] = PartitionSnapshot(
                    both,
                    round(self.counted[number]),
                    round(self.rejected[number]),
                    one.idle,
                    round(self.undeclared[number]),
                )
            if looks:
                self._look(PipelineSnapshot(self.now, partitions, 4))
        return self

    def _look(self, look: PipelineSnapshot) -> None:
        for move in self.watch.observe(look):
            self.kept[move.state.key] = move.state.to_json()
            if move.alert:
                where = "".join(move.alert["dimensions"].values())
                self.said.append(f"{move.alert['reason']}{where and ' ' + where}")

    def restart(self) -> Scenario:
        """Another worker takes over."""
        self.watch = PipelineEvaluator(RULES, [AlertState.from_json(text) for text in self.kept.values()])
        return self


def usual(number: int) -> Flow:
    """Every partition has the same, one record in a hundred is rejected, and all is read at once."""
    return Flow(100.0, 1.0, idle=True)


def without(number: int, missing: int = 2, *, idle: bool = True) -> Flow:
    """One partition gets nothing."""
    return Flow(0.0, idle=idle) if number == missing else usual(number)


def garbage(number: int) -> Flow:
    """A fifth is rejected."""
    return Flow(100.0, 20.0, idle=True)


def nothing(number: int) -> Flow:
    """Nobody sends."""
    return Flow(0.0, idle=True)


def test_a_rise_of_dead_letters_is_said_and_resolved() -> None:
    """Soon, and once more when it is much worse than was said; also by a worker that has just taken over."""
    scenario = Scenario().go(80, usual)
    assert scenario.said == []
    scenario.restart().go(4, garbage)
    assert scenario.said == ["DEAD_LETTERS_RISE"]
    scenario.go(30, garbage).restart().go(30, usual)
    assert scenario.said == ["DEAD_LETTERS_RISE", "WORSENED", "RECOVERED"]


@pytest.mark.parametrize(("undeclared", "explains"), [(0.0, True), (19.0, False)])
def test_a_flood_of_invented_funnels_mutes_no_alert(undeclared: float, explains: bool) -> None:
    """It is announced as ever; but what it lost cannot be what a declared funnel lost."""
    scenario = Scenario().go(80, usual).go(4, lambda number: Flow(100.0, 20.0, idle=True, undeclared=undeclared))
    assert scenario.said == ["DEAD_LETTERS_RISE"]
    states = [AlertState.from_json(text) for text in scenario.kept.values()]
    assert explained(firing(RULES, states), {}, sight(250), scenario.now) is explains


def test_a_partition_that_falls_silent_is_named() -> None:
    """While the others go on; it resolves with its next record."""
    scenario = Scenario().go(120, usual).go(14, without)
    assert scenario.said == []
    scenario.go(4, without)
    assert scenario.said == ["PARTITION_SILENT 2"]
    scenario.restart().go(2, usual)
    assert scenario.said == ["PARTITION_SILENT 2", "RECOVERED 2"]


def test_a_partition_that_nobody_reads_on_is_a_stuck_watermark() -> None:
    """Not idle, and its offset stands; it resolves when it is read on."""
    scenario = Scenario().go(20, usual).go(9.5, lambda number: without(number, idle=False))
    assert scenario.said == []
    scenario.go(1, lambda number: without(number, idle=False))
    assert scenario.said == ["WATERMARK_STUCK"]
    scenario.go(1, usual)
    assert scenario.said == ["WATERMARK_STUCK", "RECOVERED"]


QUIET: dict[str, Callable[[], Scenario]] = {
    "a quiet night": lambda: Scenario().go(120, usual).go(600, nothing).go(60, usual),
    "thin traffic": lambda: Scenario().go(600, lambda number: Flow(0.05, idle=True)),
    "a cold start with nothing but garbage": lambda: Scenario().go(30, lambda number: Flow(100.0, 100.0, idle=True)),
    "few rejected records in a young demo": lambda: Scenario().go(0.5, lambda number: Flow(2.0, 1.0)).go(10, usual),
    "a topic in which much is always rejected": lambda: Scenario().go(200, garbage),
    "a backfill of hours into busy partitions": lambda: (
        Scenario().go(30, usual).go(180, lambda number: Flow(5000.0)).go(60, usual).go(120, nothing)
    ),
    "workers that were away for an hour and catch up one partition after the other": lambda: (
        Scenario()
        .go(120, usual)
        .go(60, usual, looks=False)
        .restart()
        .go(8, lambda number: Flow(4000.0) if number < 2 else Flow(0.0))
        .go(60, usual)
    ),
    "a database or Kafka that was away for half an hour": lambda: (
        Scenario().go(120, usual).go(30, lambda number: Flow(0.0), looks=False).go(60, usual)
    ),
    "traffic that ends everywhere": lambda: Scenario().go(120, usual).go(300, nothing),
    "a partition that is only sometimes used": lambda: (
        Scenario().go(60, without).go(20, usual).go(120, without)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", QUIET)
def test_healthy_pipelines_raise_no_alert(name: str) -> None:
    """Each of these would page somebody for nothing."""
    assert QUIET[name]().said == []


def sight(lost: float, expected: float = 800.0) -> Evaluation:
    """A drop by so many conversions."""
    return Evaluation(
        alarm=True, recovered=0, enough=True, windows=2, impressions=1000.0, successes=expected - lost,
        expected=expected, low=0.7, high=0.9, score=9.0,
    )  # fmt: skip


EXPLAINS: dict[str, tuple[str, str, dict[str, str], dict[str, float], dict[str, str], Evaluation, int, bool]] = {
    "as many were rejected as are missing": ("DeadLettersRise", "*", {}, {"rejected": 300}, {}, sight(250), 1, True),
    "more are missing than were rejected": ("DeadLettersRise", "*", {}, {"rejected": 200}, {}, sight(250), 1, False),
    "a drop of the silent share": ("PartitionSilent", "*", {"partition": "2"}, {"share": 0.3}, {}, sight(250), 1, True),
    "a drop beyond it": ("PartitionSilent", "*", {"partition": "2"}, {"share": 0.25}, {}, sight(400), 1, False),
    "nothing by a stuck watermark": ("WatermarkStuck", "*", {}, {}, {}, sight(10), 1, False),
    "all of a funnel without impressions": ("ImpressionsCollapse", "f", {}, {}, {"os": "iOS"}, sight(700), 1, True),
    "another os without impressions": (
        "ImpressionsCollapse", "f", {"os": "Android"}, {}, {"os": "iOS"}, sight(700), 1, False
    ),
    "one os does not explain all": ("ImpressionsCollapse", "f", {"os": "iOS"}, {}, {}, sight(700), 1, False),
    "what is still wrong after half an hour is told": (
        "DeadLettersRise", "*", {}, {"rejected": 300}, {}, sight(250), 36, False
    ),
    "what was wrong before is told": ("DeadLettersRise", "*", {}, {"rejected": 300}, {}, sight(250), -1, False),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPLAINS)
def test_an_instrumentation_alert_holds_back_what_it_explains(name: str) -> None:
    """By its scope and numbers, and not for ever."""
    rule, funnel, dimensions, facts, series, seen, minutes, expected = EXPLAINS[name]
    state = AlertState(rule, funnel, "*", dimensions, State.FIRING, "a", 0, T, T, payload=facts)
    fires = firing([*RULES, *instruments(load_rules(None), "f")], [state])

    assert len(fires) == 1
    assert explained(fires, series, seen, T + minutes * MINUTE) is expected
