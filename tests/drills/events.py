"""The records of a drill: good events, repetitions, and garbage of every kind, each with what must become of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.drills.ledger import Entry

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.drills.people import People

STEPS = ("INPUT_PHONE_NUMBER", "VERIFY_SMS_CODE", "INPUT_NAME", "INPUT_PASSWORD")
OTHER_FUNNEL = "checkout"
OTHER_STEPS = ("CART", "PAY")
INCIDENT_STEP, INCIDENT_OS = "VERIFY_SMS_CODE", "iOS"
OTHER_DIMENSIONS = ("os", "browser", "app_version")
REMEMBERED = 20_000
LARGE = 30_000
"""Bytes of a value that is too large; ``MAX_VALUE`` is what workers of a drill accept."""
MAX_VALUE = 20_000
HOUR_MS = 3_600_000
LOG_DISORDER_MS = 200
"""Kafka's timestamps are those of producers, whose clocks differ by so much."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the records.

    Attributes:
        garbage: rejected for sure.
        repeated: an event that was sent before, again.
        late: up to 60 windows late: ten minutes, if windows have ten seconds.
        very_late: up to 2,160 windows late: six hours.
        ahead: by a clock that is ahead, but not too much.
        disorder_ms: every event is up to so much behind the clock.
        padding: bytes that each event has more.
    """

    garbage: float = 0.002
    repeated: float = 0.005
    late: float = 0.0
    very_late: float = 0.0
    ahead: float = 0.0
    disorder_ms: int = 1_000
    padding: int = 0


@dataclass(slots=True)
class Record:
    """A record to produce.

    Attributes:
        made_at: when it was first made, ms.
        log_time: Kafka's timestamp, ms; 0: when it is produced.
    """

    key: bytes
    value: bytes | None
    entry: Entry
    made_at: int = 0
    log_time: int = 0


@dataclass(slots=True)
class Source:
    """Makes records, one at a time.

    Attributes:
        chance: the drill's own.
        encode: an event to bytes.
        mix: shares.
        window_ms: length of a window. Half of the time, in turns of 2.5 of these, hardly anybody passes one step on one
            os, so that alerts fire and resolve.
        people: how many are in the middle of something at a time.
        repeat_within_ms: no event is sent again later than this: it would not be a duplicate.
        ahead_ms: the most that a clock is ahead.
    """

    chance: random.Random
    encode: Callable[[dict[str, Any]], bytes]
    mix: Mix
    window_ms: int
    people: People
    repeat_within_ms: int
    ahead_ms: int = 5_000
    _made: int = 0
    _recent: deque[Record] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _turn: int = 0
    _paddings: list[str] = field(default_factory=list)

    def __call__(self, now_ms: int) -> Record:
        """The next record, made at this time."""
        chance, mix = self.chance.random(), self.mix
        if chance < mix.garbage:
            return self._garbage(now_ms)
        log_time = now_ms - self.chance.randint(0, LOG_DISORDER_MS)
        if chance < mix.garbage + mix.repeated and (again := self._sent_before(now_ms)):
            return Record(again.key, again.value, Entry(event=again.entry.event), again.made_at, log_time)
        event = self.event(now_ms)
        key = event["sign_up_session_id"].encode()
        record = Record(key, self.encode(event), Entry(event=event), now_ms, log_time)
        if len(self._recent) < REMEMBERED or self.chance.random() < 0.1:
            self._recent.append(record)
        return record

    def _sent_before(self, now_ms: int) -> Record | None:
        """A record that is not too old to be found as a duplicate; None where there is none."""
        while self._recent and self._recent[0].made_at < now_ms - self.repeat_within_ms:
            self._recent.popleft()
        return self._recent[self.chance.randrange(len(self._recent))] if self._recent else None

    def event(self, now_ms: int) -> dict[str, Any]:
        """A good event."""
        chance = self.chance
        self._made += 1
        other = chance.random() < 0.1
        person = self.people.somebody()
        own = self.people.device(person)
        step = chance.choice(OTHER_STEPS) if other else STEPS[self.people.step(person)]
        event: dict[str, Any] = {
            "event_id": f"{self._made}-{chance.getrandbits(64):x}",
            "funnel": OTHER_FUNNEL if other else "sign_up",
            "sign_up_session_id": person.session,
            "step": step,
            "os": own.os,
            "browser": own.browser,
            "app_version": own.app_version,
            "phase": "IMPRESSION",
            "status": None,
            "ts": self._time(now_ms),
            "duration_ms": None,
            "contexts": {**own.contexts, **self._contexts()},
        }
        if chance.random() < 0.5:
            trouble = (step, own.os) == (INCIDENT_STEP, INCIDENT_OS) and 2 * now_ms // (5 * self.window_ms) % 2 == 1
            passed = chance.random() < (0.1 if trouble else 0.9)
            event["phase"] = "POST_VERIFICATION"
            event["status"] = "SUCCESS" if passed else "FAILURE"
            event["duration_ms"] = chance.choice((None, 0, 300, 2_500, 11_000, chance.randrange(20_000)))
            if passed and not other:
                self.people.pass_step(person)
        return event

    def _contexts(self) -> dict[str, str]:
        """Values that no funnel declares."""
        contexts = {"page": self._padding()} if self.mix.padding else {}
        if self.chance.random() < 0.5:
            contexts["request"] = f"{self.chance.getrandbits(32):x}"
        return contexts

    def _padding(self) -> str:
        """Text that compression does not make much smaller."""
        if not self._paddings:
            self._paddings = [self.chance.randbytes(self.mix.padding // 2).hex() for _ in range(64)]
        return self.chance.choice(self._paddings)

    def _time(self, now_ms: int) -> int:
        chance, mix = self.chance, self.mix
        kind = chance.random()
        for share, low, high in (
            (mix.late, -60 * self.window_ms, -self.window_ms),
            (mix.very_late, -2_160 * self.window_ms, -60 * self.window_ms),
            (mix.ahead, 0, self.ahead_ms),
        ):
            if kind < share:
                return now_ms + chance.randint(low, high)
            kind -= share
        return now_ms - chance.randint(0, mix.disorder_ms)

    def _garbage(self, now_ms: int) -> Record:
        """One of every kind in turn."""
        reason, make = _GARBAGE[self._turn % len(_GARBAGE)]
        self._turn += 1
        value = make(self, now_ms)
        return Record(b"g%d" % self.chance.getrandbits(32), value, Entry(reason=reason, value=value))

    def _encoded(self, now_ms: int, **changes: Any) -> bytes:
        return self.encode({**self.event(now_ms), "funnel": "sign_up", "step": STEPS[0], **changes})


_GARBAGE: list[tuple[str, Any]] = [
    ("EMPTY", lambda source, now: None),
    ("EMPTY", lambda source, now: b""),
    ("UNKNOWN_FRAMING", lambda source, now: b"{" + source.chance.randbytes(40)),
    ("UNKNOWN_FINGERPRINT", lambda source, now: b"\xc3\x01" + source.chance.randbytes(60)),
    ("UNKNOWN_SCHEMA_ID", lambda source, now: b"\x00\x7f\xff\xff\xff" + source.chance.randbytes(60)),
    ("INVALID_AVRO", lambda source, now: source._encoded(now)[:-1]),
    ("INVALID_AVRO", lambda source, now: source._encoded(now, os="QXXQ").replace(b"QXXQ", b"Q\xff\xfeQ")),
    ("TRAILING_BYTES", lambda source, now: source._encoded(now) + b"\x00"),
    ("TOO_LARGE", lambda source, now: source._encoded(now, contexts={"page": "x" * LARGE})),
    ("EMPTY_FIELD", lambda source, now: source._encoded(now, event_id="")),
    ("EMPTY_FIELD", lambda source, now: source._encoded(now, os="")),
    ("FIELD_TOO_LONG", lambda source, now: source._encoded(now, app_version="9" * 101)),
    ("BAD_CHARACTER", lambda source, now: source._encoded(now, browser="a\0b")),
    ("FIELD_TOO_LONG", lambda source, now: source._encoded(now, contexts={"plan": "x" * 101})),
    ("UNKNOWN_STEP", lambda source, now: source._encoded(now, step="NO_SUCH_STEP")),
    (
        "STATUS_MISSING",
        lambda source, now: source._encoded(now, phase="POST_VERIFICATION", status=None, duration_ms=None),
    ),
    ("IN_THE_FUTURE", lambda source, now: source._encoded(now, ts=now + 6 * HOUR_MS)),
    ("TOO_OLD", lambda source, now: source._encoded(now, ts=0)),
    (
        "BAD_DURATION",
        lambda source, now: source._encoded(now, phase="POST_VERIFICATION", status="SUCCESS", duration_ms=-1),
    ),
]
"""Each kind of garbage: the reason by which it must be rejected, and how it is made."""
