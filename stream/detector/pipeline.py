"""The signals of the whole pipeline, from the database's counts of each partition, snapshot by snapshot. Pure.

Counts are cumulative, so a missing snapshot blurs the signals and does not mislead them. Where too little is known
(after a cold start, or after no worker took snapshots for a while) nothing is published.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from funnelwatch.alert_rules.instruments import DeadLettersRule, SilentRule, WatermarkRule
from funnelwatch.schemas.times import MINUTE_MS
from funnelwatch.stream.detector.instrument import Finding, advance, minutes, renotify
from funnelwatch.stream.detector.state import NOTIFIED, AlertState, Reason, Transition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from funnelwatch.alert_rules.instruments import Instrument
    from funnelwatch.schemas.pipeline import PipelineSnapshot

EVERY_FUNNEL = "*"
SAMPLES = "@samples"
"""Stands for the rule in the state that remembers the snapshots of the last hours, one a minute."""
BLINK_MS = 30_000
"""After a longer pause between snapshots a standstill in between is not known."""
NEAR_MS = 5 * MINUTE_MS
"""A sample stands for a time that is at most so much later."""
REFERENCE_MS = 60 * MINUTE_MS
MIN_REFERENCE = 1000
"""The share that is usually rejected is known from so many records."""
STEADY = 6
"""A partition is steady that had records in each of so many spans before."""
LEVEL = 0.5
"""The other partitions go on when they have more than this share of what they had."""


Sample = list[Any]
"""Time, rejected in all, counted and rejected by partition, rejected of undeclared funnels."""


class PipelineEvaluator:
    """The rules on dead letters, silent partitions and stuck watermarks."""

    def __init__(self, rules: Iterable[Instrument], states: Iterable[AlertState]) -> None:
        self.rules = tuple(rules)
        names = {rule.alert for rule in self.rules}
        kept = list(states)
        self.states = {state.key: state for state in kept if state.rule in names}
        self._samples: list[Sample] = next((one.payload["samples"] for one in kept if one.rule == SAMPLES), [])
        self._last = -1
        self._stands: dict[int, tuple[int, int]] = {}
        self._busy: dict[int, int] = {}

    def observe(self, snapshot: PipelineSnapshot) -> list[Transition]:
        """The transitions that this snapshot causes."""
        self._note(snapshot)
        moves = []
        for rule in self.rules:
            if isinstance(rule, DeadLettersRule):
                moves += self._move(rule, snapshot.now, {}, self._dead_letters(rule, snapshot))
            elif isinstance(rule, SilentRule):
                for number in range(snapshot.expected):
                    moves += self._move(
                        rule, snapshot.now, {"partition": str(number)}, self._silent(rule, snapshot, number)
                    )
                moves += self._gone(rule, snapshot)
            elif isinstance(rule, WatermarkRule):
                moves += self._move(rule, snapshot.now, {}, self._stuck(rule, snapshot))
        if not self._samples or snapshot.now - self._samples[-1][0] >= MINUTE_MS:
            moves.append(self._sample(snapshot))
        return moves

    def renotify(self, message: dict[str, Any], reason: Reason) -> Transition | None:
        """Publish the last message of an alert once more, for this reason; None if the alert is over."""
        return renotify(self.states, message, reason)

    def _move(self, rule: Instrument, now: int, dimensions: dict[str, str], found: Finding | None) -> list[Transition]:
        blank = AlertState(rule.alert, EVERY_FUNNEL, "*", dimensions)
        if found is None:
            return []
        start = now - now % MINUTE_MS
        move = advance(rule, self.states.get(blank.key, blank), found, start, start + MINUTE_MS)
        if move is None:
            return []
        self.states[blank.key] = move.state
        return [move]

    def _gone(self, rule: SilentRule, snapshot: PipelineSnapshot) -> list[Transition]:
        """Resolve alerts about partitions that the topic no longer has."""
        partitions = {str(number) for number in range(snapshot.expected)}
        moves = []
        for state in list(self.states.values()):
            if state.rule == rule.alert and state.state in NOTIFIED and state.dimensions["partition"] not in partitions:
                what = f"partition {state.dimensions['partition']} of the events topic no longer exists"
                ended = Finding(False, False, 0.0, 0.0, 0.0, what, "", {}, enough=False, gone=True)
                moves += self._move(rule, snapshot.now, state.dimensions, ended)
        return moves

    def _note(self, snapshot: PipelineSnapshot) -> None:
        """Since when each partition stands, and when it was last busy."""
        blinked = self._last < 0 or not 0 <= snapshot.now - self._last <= BLINK_MS
        self._last = snapshot.now
        if blinked:
            self._stands, self._busy = {}, dict.fromkeys(range(snapshot.expected), snapshot.now)
        if self._samples and any(_shrank(self._samples[-1], snapshot)):
            self._samples = []  # another topic, or another beginning
        for number in range(snapshot.expected):
            one = snapshot.partitions.get(number)
            at = one.next_offset if one else -1
            if one is None or not one.idle:
                self._busy[number] = snapshot.now
            if number not in self._stands or self._stands[number][0] != at or (one is not None and one.idle):
                self._stands[number] = (at, snapshot.now)

    def _sample(self, snapshot: PipelineSnapshot) -> Transition:
        """Remember this snapshot; those too old for any rule are forgotten."""
        longest = max((rule.over_ms for rule in self.rules), default=0)
        oldest = snapshot.now - max((STEADY + 1) * longest, REFERENCE_MS + longest) - 2 * NEAR_MS
        counted = {str(number): one.counted + one.rejected for number, one in snapshot.partitions.items()}
        rejected, undeclared = _rejections(snapshot)
        sample = [snapshot.now, rejected, counted, undeclared]
        self._samples = [*(one for one in self._samples if one[0] >= oldest), sample]
        return Transition(AlertState(SAMPLES, EVERY_FUNNEL, "*", {}, payload={"samples": self._samples}))

    def _at(self, time: int) -> Sample | None:
        """The sample of that time; None if there was no snapshot shortly before."""
        found = next((one for one in reversed(self._samples) if one[0] <= time), None)
        return found if found and time - found[0] <= NEAR_MS else None

    def _dead_letters(self, rule: DeadLettersRule, snapshot: PipelineSnapshot) -> Finding | None:
        begin = self._at(snapshot.now - rule.over_ms)
        if begin is None:
            return None
        records, rejected = _since(begin, snapshot)
        share = rejected / max(records, 1)
        before = self._at(snapshot.now - rule.over_ms - REFERENCE_MS)
        known = before is not None and sum(begin[2].values()) - sum(before[2].values()) >= MIN_REFERENCE
        usual = 0.0
        if before is not None and known:
            usual = (begin[1] - before[1]) / (sum(begin[2].values()) - sum(before[2].values()))
        return Finding(
            alarm=known and rejected >= rule.min_rejected and share >= max(rule.above, rule.times * usual),
            recovered=share < rule.above / 2 or rejected < rule.min_rejected / 2,
            total=records,
            seen=records - rejected,
            usual=records * (1.0 - usual),
            what=(
                f"{rejected} of {records} records were rejected in {minutes(rule.over_ms)}, {share:.1%}; "
                f"{usual:.1%} is usual"
            ),
            first=(
                "`funnelwatch dead-letters list --since 30m` says why: which app or producer was released? What was "
                "rejected is kept; `funnelwatch dead-letters replay` counts it once the cause is fixed."
            ),
            # What is rejected of funnels that nobody declared explains no loss of a declared one: else whoever floods
            # the topic with invented names would mute the alerts of all others.
            facts={"rejected": float(rejected - (_rejections(snapshot)[1] - begin[3]))},
        )

    def _silent(self, rule: SilentRule, snapshot: PipelineSnapshot, number: int) -> Finding | None:
        marks = [self._at(snapshot.now - k * rule.over_ms) for k in range(1, STEADY + 2)]
        if marks[0] is None or number not in snapshot.partitions:
            return None
        name = str(number)
        mine = snapshot.partitions[number].counted + snapshot.partitions[number].rejected - marks[0][2].get(name, 0)
        others = _since(marks[0], snapshot)[0] - mine
        share, level, steady = 0.0, 0.0, False
        known = [mark for mark in marks if mark is not None]
        if len(known) == len(marks):
            own = [later[2].get(name, 0) - earlier[2].get(name, 0) for later, earlier in pairwise(known)]
            rest = [sum(later[2].values()) - sum(earlier[2].values()) for later, earlier in pairwise(known)]
            steady = min(own) >= rule.min_expected / 4
            share = median(one / max(all_, 1) for one, all_ in zip(own, rest, strict=True))
            level = median(all_ - one for one, all_ in zip(own, rest, strict=True))
        expected = others * share / (1.0 - share) if share < 1.0 else 0.0
        idle = snapshot.now - self._busy[number] >= rule.over_ms
        return Finding(
            alarm=(
                mine == 0
                and idle
                and steady
                and others > 0
                and others >= LEVEL * level
                and expected >= rule.min_expected
            ),
            recovered=mine > 0,
            total=expected,
            seen=min(mine, expected),
            usual=expected,
            what=(
                f"partition {number} of the events topic has had no record for {minutes(rule.over_ms)}, where about "
                f"{expected:.0f} would be usual; the other partitions go on"
            ),
            first=(
                f"Can producers write to partition {number}? See whether it has a leader (kafka-topics --describe), "
                "then the delivery errors of the producers."
            ),
            facts={"share": share},
        )

    def _stuck(self, rule: WatermarkRule, snapshot: PipelineSnapshot) -> Finding:
        late = {
            number: snapshot.now - since
            for number, (_, since) in self._stands.items()
            if number < snapshot.expected and snapshot.now - since >= rule.over_ms
        }
        worst = max(late, key=late.__getitem__, default=-1)
        return Finding(
            alarm=bool(late),
            recovered=not late,
            total=1.0,
            seen=0.0 if late else 1.0,
            usual=1.0,
            what=(
                f"partition {worst} of the events topic was not read on for {late.get(worst, 0) // MINUTE_MS} min: "
                "windows do not close, and nothing is evaluated"
            ),
            first=(
                "`funnelwatch doctor`, then the workers' logs for STOPPED or waiting, and /healthz of each: who has it "
                "and what does it wait for? See docs/running.md, When something is wrong."
            ),
            facts={},
        )


def _since(begin: Sample, snapshot: PipelineSnapshot) -> tuple[int, int]:
    """Records and rejected records since a sample."""
    rejected, _ = _rejections(snapshot)
    records = sum(one.counted + one.rejected for one in snapshot.partitions.values())
    return records - sum(begin[2].values()), rejected - begin[1]


def _rejections(snapshot: PipelineSnapshot) -> tuple[int, int]:
    """Records that were ever rejected, and how many of them are of undeclared funnels."""
    partitions = snapshot.partitions.values()
    return sum(one.rejected for one in partitions), sum(one.undeclared for one in partitions)


def _shrank(sample: Sample, snapshot: PipelineSnapshot) -> list[bool]:
    """For each partition, whether it has less than it had."""
    return [one.counted + one.rejected < sample[2].get(str(number), 0) for number, one in snapshot.partitions.items()]
