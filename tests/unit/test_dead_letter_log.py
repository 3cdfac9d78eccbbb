"""Reading dead letters: whatever stands in the topic, it can be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from funnelwatch.cli.dead_letter_view import hexdump
from funnelwatch.schemas.codec import Encoder
from funnelwatch.schemas.events import FunnelEvent, Phase
from funnelwatch.schemas.funnels import BUILT_IN
from funnelwatch.schemas.settings import Settings
from funnelwatch.stream.intake.dead_letter_log import (
    DeadLetter,
    Place,
    decodable_fields,
    parse_letter,
    rejection_now,
    unique,
    validator_of,
)

EVENT = FunnelEvent(
    sign_up_session_id="s", step="INPUT_NAME", phase=Phase.IMPRESSION, os="iOS", ts=1_000, event_id="e"
).record()


@dataclass
class Message:
    """As much of a Kafka message as is read."""

    sent: Any
    bytes_: bytes | None = b"x"

    def headers(self) -> Any:
        """The headers."""
        return self.sent

    def partition(self) -> int:
        """Where it stands."""
        return 3

    def offset(self) -> int:
        """Where it stands."""
        return 9

    def timestamp(self) -> tuple[int, int]:
        """Kind and ms."""
        return 1, 5_000

    def key(self) -> bytes | None:
        """None."""
        return None

    def value(self) -> bytes | None:
        """The bytes."""
        return self.bytes_


def letter(headers: Any, value: bytes | None = b"x") -> DeadLetter:
    """The letter of these headers."""
    return parse_letter(cast("Any", Message(headers, value)))


OURS = [
    ("reason", b"EMPTY"),
    ("detail", b"no value"),
    ("topic", b"funnel.events"),
    ("partition", b"2"),
    ("offset", b"17"),
    ("timestamp", b"4000"),
]


def test_the_headers_of_a_letter_are_read() -> None:
    """Reason, detail, where the record stood, and how much of it is kept."""
    ours = letter([*OURS, ("truncated_from", b"70000")])
    assert (ours.reason, ours.detail, ours.truncated_from) == ("EMPTY", "no value", 70_000)
    assert ours.source == Place("funnel.events", 2, 17, 4_000)
    assert (ours.partition, ours.offset, ours.sent_ms) == (3, 9, 5_000)


names = st.sampled_from(["reason", "topic", "partition", "offset", "timestamp", "truncated_from", "other"])


@given(st.none() | st.lists(st.tuples(names, st.none() | st.binary(max_size=30))), st.none() | st.binary())
def test_no_message_is_too_strange_to_be_shown(headers: Any, value: bytes | None) -> None:
    """Headers of any kind make a letter whose place, if it has one, fits into the database."""
    found = letter(headers, value)
    assert found.source is None or found.source.offset < 2**63
    assert isinstance(decodable_fields(found.value), dict)


def test_a_number_beyond_the_database_is_no_place() -> None:
    """A foreign letter cannot make a query fail."""
    assert letter([*OURS[:4], ("offset", str(2**63).encode()), OURS[5]]).source is None
    assert letter([*OURS[:5], ("timestamp", b"99999999999999999")]).source is None


def test_a_letter_sent_again_is_one_and_letters_without_a_place_are_many() -> None:
    """After a crash the same record is there twice; a topic made anew has other records at the same offsets."""
    anew = letter([*OURS[:5], ("timestamp", b"4001")])
    found = list(unique([letter(OURS), letter(None), letter(OURS), letter(None), anew]))
    assert [one.source and one.source.timestamp for one in found] == [4_000, None, None, 4_001]


def test_the_verdict_of_now_is_that_of_the_settings_of_now() -> None:
    """What was rejected for its age is accepted once the limit is raised."""
    value = Encoder("FunnelEvent")(EVENT)
    strict = validator_of(Settings(max_age_days=1), BUILT_IN)
    rejected = rejection_now(strict, letter(OURS, value), now_ms=2 * 86_400_000)
    assert rejected is not None
    assert rejected.startswith("TOO_OLD")
    assert rejection_now(validator_of(Settings(), BUILT_IN), letter(OURS, value), now_ms=2 * 86_400_000) is None


def test_what_is_left_of_a_damaged_event_is_read_up_to_the_damage() -> None:
    """Of an event that breaks off after its os, everything up to there is shown."""
    value = Encoder("FunnelEvent")(EVENT)
    cut = value[: value.index(b"iOS") + 3]
    assert decodable_fields(cut) == {
        "event_id": "e",
        "funnel": "sign_up",
        "sign_up_session_id": "s",
        "step": "INPUT_NAME",
        "os": "iOS",
    }
    assert decodable_fields(value) == EVENT
    assert decodable_fields(b"\xc3\x01unknown!and more") == {}


def test_a_hexdump_shows_offsets_bytes_and_text() -> None:
    """Sixteen bytes a line; what is not printable ASCII is a dot."""
    assert list(hexdump(b"0123456789abcdef\x00\xffz")) == [
        "  000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef",
        "  000010  00 ff 7a                                         ..z",
    ]
