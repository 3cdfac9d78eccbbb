"""From one scrape to the next: what has been added to each counter since, and what stands for it here. Pure.

A counter of an app begins at zero when the app starts. It has been reset when it is smaller than before, or when the
app says that it has started since (``process_start_time_seconds``); then all that it has counts. The very first
scrape of a target is where counting begins; a series that comes later begins at zero.

What is to be emitted is planned first, with ids that are made of the counter's life and its values. The plan is kept
until Kafka has everything, so whoever repeats it, after a crash, repeats the same ids, and they are counted once.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from funnelwatch.producers.bridge.mapping import filled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from funnelwatch.producers.bridge.mapping import Map

MAX_AT_ONCE = 100_000
"""Of one series this many increments are emitted after a scrape; the rest after the next."""

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
    """Up to where a counter has been taken over: ``value`` of its life number ``life``."""

    value: int = 0
    life: int = 0


@dataclass(slots=True)
class Added:
    """An increment that is to be emitted: the counter went from ``begin`` to ``end`` in a life.

    Attributes:
        key: of the series.
        labels: of the series.
        map: which map it fits.
        life: of the counter.
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
    """What is known of a target from before.

    Attributes:
        scraped_ms: when it was last taken over; None: never.
        started: its process's start time; None: it says none.
        counters: by the series' key.
        plan: what is being emitted.
        plan_ms: when that was scraped.
    """

    scraped_ms: int | None = None
    started: float | None = None
    counters: dict[str, Life] = field(default_factory=dict)
    plan: list[Added] = field(default_factory=list)
    plan_ms: int = 0

    def to_json(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> State:
        """As it was kept.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        kept = json.loads(text)
        counters = {key: Life(**life) for key, life in kept.pop("counters").items()}
        plan = [Added(**added) for added in kept.pop("plan")]
        return cls(counters=counters, plan=plan, **kept)


def plan(state: State, scrape: Sequence[Seen], maps: Sequence[Map], now_ms: int) -> None:
    """Plan what a scrape has added; the state must have no plan."""
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
    """Kafka has all of the plan."""
    for added in state.plan:
        state.counters[added.key] = Life(added.end, added.life)
    state.scraped_ms, state.plan = state.plan_ms, []


def records(
    target: str, state: State, maps: Sequence[Map], usual_gap_ms: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What stands for the plan: ("event" or "metric", fields for ``emit`` or ``record``); the same each time.

    Args:
        target: its name.
        state: with a plan.
        maps: as they were planned with.
        usual_gap_ms: increments of a longer time (the bridge was down) are dated evenly over it; else at its end.
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
        texts = mapped.event.model_dump(exclude={"phase", "status"})
        fields: dict[str, Any] = {name: filled(text, added.labels) for name, text in texts.items()}
        fields |= {"phase": mapped.event.phase, "status": mapped.event.status}
        for number in range(count):
            one = f"bridge/{ident}/{added.begin + number + 1}"
            ts = state.plan_ms - spread + spread * (number + 1) // count
            yield "event", {**fields, "event_id": one, "sign_up_session_id": one, "ts": ts}


def _metric(mapped: Map, added: Added, ident: str, ts: int) -> dict[str, Any]:
    assert mapped.counter is not None
    dimensions = {name: filled(text, added.labels) for name, text in mapped.counter.dimensions.items()}
    return {
        "name": filled(mapped.counter.name, added.labels),
        "kind": "COUNTER",
        "value": added.end - added.begin,
        "dimensions": {name: value for name, value in dimensions.items() if value},
        "event_id": f"bridge/{ident}/{added.begin}-{added.end}",
        "ts": ts,
    }
