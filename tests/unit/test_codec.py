"""The codec: both framings, every rejection, and no other outcome."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

import funnelwatch.schemas.codec
from funnelwatch.schemas.codec import SCHEMAS, Decoder, Encoder, Reason, Undecodable
from funnelwatch.schemas.files import HERE, plain, single_object_fingerprint

EVENT: dict[str, Any] = {
    "event_id": "e-1",
    "funnel": "sign_up",
    "sign_up_session_id": "s-1",
    "step": "VERIFY_SMS_CODE",
    "os": "iOS",
    "browser": "",
    "app_version": "5.2.0",
    "phase": "POST_VERIFICATION",
    "status": "SUCCESS",
    "ts": 1_700_000_000_123,
    "duration_ms": 23_456,
    "contexts": {"country": "DE"},
}
WINDOW: dict[str, Any] = {
    "funnel": "sign_up",
    "window_start": 0,
    "window_end": 60_000,
    "revision": 0,
    "part": 0,
    "parts": 1,
    "series": [
        {
            "step": "A",
            "os": "iOS",
            "browser": "",
            "app_version": "",
            "impressions": 3,
            "successes": 2,
            "failures": 1,
            "cohort_successes": 2,
            "cohort_failures": 1,
            "sessions": 2,
            "session_successes": 2,
            "reached": 1,
            "completed": 1,
            "dimensions": {"country": "DE"},
        }
    ],
}
encode, decode = Encoder("FunnelEvent"), Decoder("FunnelEvent")
GOOD = encode(EVENT)

text = st.text(st.characters(codec="utf-8"), max_size=20)
longs = st.integers(-(2**63), 2**63 - 1)
events = st.fixed_dictionaries(
    {
        "event_id": text,
        "funnel": text,
        "sign_up_session_id": text,
        "step": text,
        "os": text,
        "browser": text,
        "app_version": text,
        "phase": st.sampled_from(["IMPRESSION", "POST_VERIFICATION"]),
        "status": st.sampled_from([None, "SUCCESS", "FAILURE"]),
        "ts": longs,
        "duration_ms": st.none() | longs,
        "contexts": st.dictionaries(text, text, max_size=3),
    }
)


def reason_of(value: bytes | None) -> Reason:
    """Why these bytes are no event."""
    with pytest.raises(Undecodable) as caught:
        decode(value)
    return caught.value.reason


def fields_or_reason(value: bytes) -> Any:
    """The field names of the decoded event, or why there is none; other errors are those of the test."""
    try:
        return decode(value).keys()
    except Undecodable as rejected:
        return rejected.reason


def crc_64_avro(data: bytes) -> int:
    """The fingerprint as the Avro specification computes it, bit by bit."""
    empty = 0xC15D213AA4D7A795
    value = empty
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (empty if value & 1 else 0)
    return value


def test_single_object_header_is_that_of_the_avro_specification() -> None:
    """The header is C3 01 and the little-endian CRC-64-AVRO of the canonical form."""
    canonical = fastavro.schema.to_parsing_canonical_form(json.loads((HERE / "funnel_event.avsc").read_text()))
    assert GOOD[:10] == b"\xc3\x01" + crc_64_avro(canonical.encode()).to_bytes(8, "little")


@given(events)
def test_any_event_survives_the_way_there_and_back(event: dict[str, Any]) -> None:
    """Decoding what was encoded gives the same record, times as whole milliseconds."""
    assert decode(encode(event)) == event


@pytest.mark.parametrize("name", ["ClosedWindow"])
def test_a_closed_window_survives_the_way_there_and_back(name: str) -> None:
    """Nested records come back as they were."""
    assert Decoder(name)(Encoder(name)(WINDOW)) == WINDOW


def test_all_topics_have_a_schema() -> None:
    """Each of the three kinds of record can be encoded and decoded."""
    assert set(SCHEMAS) == {"FunnelEvent", "Metric", "ClosedWindow", "Alert"}


def test_absent_fields_take_their_defaults() -> None:
    """A record with the needed fields alone is complete after decoding."""
    needed = {name: EVENT[name] for name in ("event_id", "sign_up_session_id", "step", "ts")} | {"phase": "IMPRESSION"}
    defaults = {"funnel": "sign_up", "os": "unknown", "browser": "", "app_version": "", "status": None}
    assert decode(encode(needed)) == {**needed, **defaults, "duration_ms": None, "contexts": {}}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ts", 1.5),
        ("ts", True),
        ("ts", "1"),
        ("ts", None),
        ("ts", 2**63),
        ("event_id", None),
        ("event_id", 3),
        ("event_id", b"x"),
        ("event_id", "\ud800"),
        ("phase", "SHOWN"),
        ("phase", None),
        ("status", "MAYBE"),
        ("duration_ms", 1.5),
        ("duration_ms", 2**64),
        ("contexts", None),
        ("contexts", []),
        ("contexts", {"a": 1}),
        ("contexts", {1: "a"}),
        ("contexts", {"a": "\ud800"}),
        ("app_verison", "5"),
    ],
)
def test_a_record_that_does_not_fit_is_rejected_with_the_field_named(field: str, value: Any) -> None:
    """Even what fastavro would quietly change or leave out."""
    with pytest.raises(ValueError, match=f"^{field}"):
        encode({**EVENT, field: value})


def test_a_missing_field_is_rejected_with_the_field_named() -> None:
    """A field without a default must be there."""
    with pytest.raises(ValueError, match=r"^step: is missing"):
        encode({name: value for name, value in EVENT.items() if name != "step"})


def test_a_fraction_deep_in_a_window_is_rejected() -> None:
    """A nested count is checked as well as a top-level one."""
    series = {**WINDOW["series"][0], "impressions": 1.5}
    with pytest.raises(ValueError, match=r"^series\[0\]\.impressions"):
        Encoder("ClosedWindow")({**WINDOW, "series": [series]})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.EMPTY),
        (b"", Reason.EMPTY),
        (b'{"event_id": "e-1"}', Reason.UNKNOWN_FRAMING),
        (b"\xc3\x02" + GOOD[2:], Reason.UNKNOWN_FRAMING),
        (b"\xc3", Reason.UNKNOWN_FRAMING),
        (GOOD[:9], Reason.INVALID_AVRO),
        (b"\xc3\x01" + bytes(8) + GOOD[10:], Reason.UNKNOWN_FINGERPRINT),
        (b"\x00\x00\x00\x00\x01" + GOOD[10:], Reason.UNKNOWN_SCHEMA_ID),
        (b"\x00\x00", Reason.INVALID_AVRO),
        (GOOD[:10], Reason.INVALID_AVRO),
        (GOOD[:-1], Reason.INVALID_AVRO),
        (GOOD.replace(b"iOS", b"\xff\xfeS"), Reason.INVALID_AVRO),
        (GOOD + b"\x00", Reason.TRAILING_BYTES),
    ],
)
def test_bytes_that_are_no_event_are_rejected_with_the_reason(value: bytes | None, reason: Reason) -> None:
    """Each kind of error has its name."""
    assert reason_of(value) == reason


@pytest.mark.parametrize("index", [b"\x01", b"\x03", b"\x04"], ids=["minus one", "minus two", "two"])
def test_an_enum_index_that_does_not_exist_is_rejected(index: bytes) -> None:
    """A negative index does not count from the end."""
    assert reason_of(GOOD.replace(b"5.2.0\x02", b"5.2.0" + index)) == Reason.INVALID_AVRO


@given(st.binary(max_size=200), st.sampled_from([b"", GOOD[:10], b"\xc3\x01", b"\x00\x00\x00\x00\x07"]))
def test_garbage_is_an_event_or_undecodable_and_nothing_else(garbage: bytes, header: bytes) -> None:
    """No bytes raise anything but Undecodable."""
    assert fields_or_reason(header + garbage) in (EVENT.keys(), *Reason)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_an_event_or_undecodable_and_nothing_else(place: int, flip: int) -> None:
    """A good event with one byte changed raises nothing but Undecodable."""
    value = bytearray(GOOD)
    value[place] ^= flip
    assert fields_or_reason(bytes(value)) in (EVENT.keys(), *Reason)


def test_bytes_of_an_earlier_schema_are_resolved_by_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event written before contexts existed decodes with the default for them."""
    old = json.loads((HERE / "funnel_event.avsc").read_text())
    old["fields"] = [field for field in old["fields"] if field["name"] != "contexts"]
    parsed = plain(old)
    body = io.BytesIO()
    fastavro.schemaless_writer(body, parsed, EVENT)
    value = b"\xc3\x01" + single_object_fingerprint(parsed) + body.getvalue()
    assert reason_of(value) == Reason.UNKNOWN_FINGERPRINT

    monkeypatch.setattr(funnelwatch.schemas.codec, "history", lambda name: (parsed,))
    assert Decoder("FunnelEvent")(value) == {**EVENT, "contexts": {}}
