"""Increments between two scrapes, and the events and samples that they stand for. Pure.

A counter of an app begins at zero when the app starts. A reset is a smaller value than before, or a newer start time
of the process (``process_start_time_seconds``); then the whole value counts. Counting begins with the first scrape of
a target; a series that appears later begins at zero.

Records are planned before they are emitted, with ids derived from the counter's life and its values. The plan is kept
until Kafka has everything, so repeating it after a crash repeats the same ids, and each counts once.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from funnelwatch.producers.bridge.mapping import filled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from funnelwatch.producers.bridge.mapping import Map

MAX_AT_ONCE = 100_000
"""Increments of one series after a scrape, at most; the rest follows after the next scrape."""

MAX_INCREMENT = 1_000_000_000

START_TIME = "process_start_time_seconds"


@dataclass(frozen=True, slots=True)
class Seen:
    """One series of a scrape."""

    name: str
    labels: dict[str, str]
    value: float

    @property
    def key(self) -> str:
        """Name and labels, as one text."""
        return json.dumps([self.name, sorted(self.labels.items())], separators=(",", ":"))


@dataclass(slots=True)
class Life:
    """The value up to which a counter has been emitted: ``value`` of its life number ``life``."""

    value: int = 0
    life: int = 0


@dataclass(slots=True)
class Added:
    """A planned increment: the counter went from ``begin`` to ``end`` in a life.

    Attributes:
        key: key of the series.
        labels: labels of the series.
        map: number of the map that it fits.
        life: number of the counter's life.
        begin: value before.
        end: value after.
    """

    key: str
    labels: dict[str, str]
    map: int
    life: int
    begin: int
    end: int


@dataclass(slots=True)
class State:
    """The state of a target.

    Attributes:
        scraped_ms: time of the last emitted scrape; None: never.
        started: start time of its process; None: unknown.
        counters: by the series' key.
        plan: increments that are being emitted.
        plan_ms: time of their scrape.
    """

    scraped_ms: int | None = None
    started: float | None = None
    counters: dict[str, Life] = field(default_factory=dict)
    plan: list[Added] = field(default_factory=list)
    plan_ms: int = 0

    def to_json(self) -> str:
        """The state as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> State:
        """The state from its JSON.

        Raises:
            ValueError, KeyError, TypeError: the text is not such JSON.
        """
        kept = json.loads(text)
        counters = {key: Life(**life) for key, life in kept.pop("counters").items()}
        plan = [Added(**added) for added in kept.pop("plan")]
        return cls(counters=counters, plan=plan, **kept)


def plan(state: State, scrape: Sequence[Seen], maps: Sequence[Map], now_ms: int) -> None:
    """Plan the increments of a scrape; the state must have no plan."""
    started = next((seen.value for seen in scrape if seen.name == START_TIME), None)
    restarted = started is not None and state.started is not None and started != state.started
    first = state.scraped_ms is None
    for seen in scrape:
        number = next((n for n, one in enumerate(maps) if one.fits(seen.name, seen.labels)), None)
        if number is None or not math.isfinite(seen.value) or seen.value < 0:
            continue
        value = int(seen.value)
        known = state.counters.get(seen.key)
        if known is None:
            known = state.counters[seen.key] = Life(value if first else 0)
        elif restarted or value < known.value:
            known.value, known.life = 0, known.life + 1
        most = MAX_AT_ONCE if maps[number].event else MAX_INCREMENT
        end = min(value, known.value + most)
        if end > known.value:
            state.plan.append(Added(seen.key, seen.labels, number, known.life, known.value, end))
    state.started = started if started is not None else state.started
    state.plan_ms = now_ms


def done(state: State) -> None:
    """Record that Kafka has the whole plan."""
    for added in state.plan:
        state.counters[added.key] = Life(added.end, added.life)
    state.scraped_ms, state.plan = state.plan_ms, []


def records(
    target: str, state: State, maps: Sequence[Map], usual_gap_ms: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of the plan: ("event" or "metric", fields for ``emit`` or ``record``); the same each time.

    Args:
        target: name of the target.
        state: the state, with a plan.
        maps: the maps of the plan.
        usual_gap_ms: increments of a longer period (the bridge was down) are spread evenly over it; others are dated at
            its end.
    """
    since = state.plan_ms if state.scraped_ms is None else state.scraped_ms
    spread = state.plan_ms - since if state.plan_ms - since > usual_gap_ms else 0
    for added in state.plan:
        mapped, count = maps[added.map], added.end - added.begin
        ident = f"{target}/{hashlib.sha256(added.key.encode()).hexdigest()[:16]}/{added.life}"
        if mapped.counter is not None:
            yield "metric", _metric(mapped, added, ident, state.plan_ms)
            continue
        assert mapped.event is not None
        texts = mapped.event.model_dump(exclude={"phase", "status", "contexts"})
        fields: dict[str, Any] = {name: filled(text, added.labels) for name, text in texts.items()}
        fields |= {"phase": mapped.event.phase, "status": mapped.event.status}
        if contexts := _filled(mapped.event.contexts, added.labels):
            fields["contexts"] = contexts
        for number in range(count):
            one = f"bridge/{ident}/{added.begin + number + 1}"
            ts = state.plan_ms - spread + spread * (number + 1) // count
            yield "event", {**fields, "event_id": one, "sign_up_session_id": one, "ts": ts}


def _filled(texts: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, str]:
    """Dimensions with their labels filled in; one that is empty then is left out."""
    found = {name: filled(text, labels) for name, text in texts.items()}
    return {name: value for name, value in found.items() if value}


def _metric(mapped: Map, added: Added, ident: str, ts: int) -> dict[str, Any]:
    assert mapped.counter is not None
    return {
        "name": filled(mapped.counter.name, added.labels),
        "kind": "COUNTER",
        "value": added.end - added.begin,
        "dimensions": _filled(mapped.counter.dimensions, added.labels),
        "event_id": f"bridge/{ident}/{added.begin}-{added.end}",
        "ts": ts,
    }
