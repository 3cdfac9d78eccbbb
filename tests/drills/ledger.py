"""The ledger: every record that a drill has produced, where it went, and what must become of it.

The expectation is a plain group-by over the ledger. It shares no code with the pipeline, so that both would have to be
wrong in the same way.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import KafkaError, Message

DIMENSIONS = ("os", "browser", "app_version", "country", "plan")

Key = tuple[int, str, str, str, str, str, str, str]
"""window_start (ms), funnel, step, and a value for each of ``DIMENSIONS``."""

Place = tuple[int, int]
"""Partition and offset."""

Duration = tuple[int, str, str, str, str, str, str, str, int, int]
"""A Key, and a bucket of durations [from, to), ms."""


@dataclass(slots=True)
class Entry:
    """One record that was given to Kafka.

    Attributes:
        event: the event, for one that is to be counted; only what counting needs.
        reason: why it must be rejected, for one that must be.
        value: its bytes, for one that must be rejected.
        place: where Kafka has confirmed it; None while it has not.
    """

    event: Mapping[str, Any] | None = None
    reason: str = ""
    value: bytes | None = None
    place: Place | None = None


@dataclass(slots=True)
class Expectation:
    """What must be found in the end.

    Attributes:
        counts: key to impressions, successes, failures, cohort successes, cohort failures.
        durations: how many successes that know how long they took, by key and bucket.
        rejected: place to reason and bytes.
        accepted: events, each once.
        duplicates: repetitions, none of them counted.
        ends: partition to the offset after its last record.
    """

    counts: dict[Key, list[int]] = field(default_factory=dict)
    durations: Counter[Duration] = field(default_factory=Counter)
    rejected: dict[Place, tuple[str, bytes | None]] = field(default_factory=dict)
    accepted: int = 0
    duplicates: int = 0
    ends: dict[int, int] = field(default_factory=dict)


class Ledger:
    """Written by the one thread that produces; ``ends`` is read by others."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.ends: dict[int, int] = {}
        self.failed: list[str] = []
        self.confirmed = 0

    def add(self, entry: Entry) -> int:
        """Note a record before it is produced; its number."""
        self.entries.append(entry)
        return len(self.entries) - 1

    def delivered(self, number: int, error: KafkaError | None, message: Message) -> None:
        """Note where Kafka has confirmed a record."""
        if error is not None:
            self.failed.append(error.str())
            return
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        self.entries[number].place = partition, offset
        self.ends[partition] = max(self.ends.get(partition, 0), offset + 1)
        self.confirmed += 1

    def expectation(self, window_ms: int) -> Expectation:
        """What must be found when everything is dealt with."""
        expected = Expectation(ends=dict(self.ends))
        seen: set[str] = set()
        cells: Counter[tuple[Key, int]] = Counter()
        for entry in self.entries:
            event = entry.event
            if event is None:
                assert entry.place is not None
                expected.rejected[entry.place] = entry.reason, entry.value
            elif event["event_id"] in seen:
                expected.duplicates += 1
            else:
                seen.add(event["event_id"])
                cells.update(cells_of(event, window_ms))
                expected.durations.update(durations_of(event, window_ms))
        expected.accepted = len(seen)
        for key, column in cells:
            expected.counts.setdefault(key, [0] * 5)[column] = cells[key, column]
        return expected


def cells_of(event: Mapping[str, Any], window_ms: int) -> list[tuple[Key, int]]:
    """The cells, key and column, to which one event adds one."""
    own = _key(event, event["ts"], window_ms)
    if event["phase"] == "IMPRESSION":
        return [(own, 0)]
    shown = _key(event, event["ts"] - (event["duration_ms"] or 0), window_ms)
    failed = event["status"] == "FAILURE"
    return [(own, 2 if failed else 1), (shown, 4 if failed else 3)]


def durations_of(event: Mapping[str, Any], window_ms: int) -> list[Duration]:
    """The slot to which one event adds one; none unless it is a success that knows how long it took.

    Slots are found by counting up from 0: 8 of 1 ms, then always four that are twice as wide as the four before.
    """
    took = event["duration_ms"]
    if event["status"] != "SUCCESS" or event["phase"] == "IMPRESSION" or took is None:
        return []
    begin, width = 0, 1
    while begin + 4 * width <= took:
        begin += 4 * width
        width = max(1, begin // 4)
    begin += (took - begin) // width * width
    return [(*_key(event, event["ts"], window_ms), begin, begin + width)]


def _key(event: Mapping[str, Any], time_ms: int, window_ms: int) -> Key:
    start = time_ms // window_ms * window_ms
    own = event["funnel"], event["step"], event["os"], event["browser"], event["app_version"]
    # Undeclared funnels count by the fields of events only.
    contexts = event["contexts"] if event["funnel"] == "sign_up" else {}
    return start, *own, contexts.get("country", ""), contexts.get("plan", "")
