"""Validation in bulk says exactly what validation record by record says, whatever the bytes."""

from __future__ import annotations

import json
import struct
from io import BytesIO
from typing import Any

from fastavro import schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelwatch.schemas.codec import CONFLUENT, Decoder, Encoder, Undecodable
from funnelwatch.schemas.files import SCHEMAS, plain
from funnelwatch.schemas.funnels import Funnel, series_of
from funnelwatch.schemas.registry import UnknownSchemaId
from funnelwatch.schemas.validation import MAX_ID_LENGTH, Horizon, Limits
from funnelwatch.stream.intake.batches import NONE, Record, RecordBatch, Records, ValidatedBatch
from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.validator import EventValidator
from funnelwatch.stream.native.digests import digests_of
from funnelwatch.stream.native.event_decoder import EventDecoder
from funnelwatch.stream.native.series_numbers import PROVISIONAL
from tests.traffic import event

NOW = 1_700_000_000_000
NEW_ID, OLD_ID, STRANGE_ID = 1, 300, 70_000
FUNNELS = {
    "sign_up": Funnel(("INPUT_PHONE_NUMBER", "INPUT_NAME")),
    "shop": Funnel(("INPUT_PHONE_NUMBER", "INPUT_NAME"), ("os", "country", "plan", "x" * 63)),
    "none": Funnel(("INPUT_NAME",), ()),
}
KEYS = ("country", "plan", "x" * 63)
LIMITS = Limits(300_000, 10**10)
SHORT = Limits(300_000, 10**10, Horizon(NOW - 300_000))
"""Counts of five minutes ago are dropped already."""


def changed(**kinds: Any) -> dict[str, Any]:
    """The event's schema with some fields of another kind (None: without them), and one more field at its beginning."""
    schema = json.loads(json.dumps({key: value for key, value in SCHEMAS["FunnelEvent"].items() if key[:2] != "__"}))
    fields = [one | {"type": kinds.get(one["name"], one["type"])} for one in schema["fields"]]
    more = {"name": "screen", "type": "string", "default": "x"}
    return plain(schema | {"fields": [more, *(one for one in fields if one["type"])]})


WRITERS = {
    NEW_ID: SCHEMAS["FunnelEvent"],
    # An earlier version: without three of the fields, and with a phase that is gone.
    OLD_ID: changed(
        os=None,
        contexts=None,
        duration_ms=None,
        phase={
            "type": "enum",
            "name": "Phase",
            "namespace": "funnelwatch",
            "symbols": ["POST_VERIFICATION", "GONE", "IMPRESSION"],
        },
    ),
    # What only fastavro resolves.
    STRANGE_ID: changed(ts="int", browser="bytes"),
}


class Known:
    """A registry in memory."""

    def schemas(self, schema_id: int) -> list[dict[str, Any]]:
        """The schema of that id; it refers to no other."""
        if schema_id not in WRITERS:
            raise UnknownSchemaId(schema_id)
        return [WRITERS[schema_id]]


DECODER = Decoder("FunnelEvent", Known())  # type: ignore[arg-type]
SINGLE_OBJECT = Encoder("FunnelEvent")
text = st.sampled_from(["", "a", "Chrome", "Ünï", "日本語のブラウザ", "nul\0", "x" * 63, "x" * 64, "é" * 60, "x" * 101])
ids = st.sampled_from(
    ["", "e1", "e2", "8c5f1f0e-0000-4000-8000-000000000001", "ï" * 40, "x" * 500, "x" * 501, "ü" * 700]
)
numbers = st.integers(-(2**63), 2**63 - 1)
events = st.builds(
    event,
    event_id=ids,
    sign_up_session_id=ids,
    funnel=st.sampled_from(["sign_up", "shop", "shop", "none", "other", ""]),
    step=st.sampled_from(["INPUT_PHONE_NUMBER", "INPUT_NAME", "NO_STEP"]),
    os=text,
    browser=text,
    app_version=text,
    phase=st.sampled_from(["IMPRESSION", "POST_VERIFICATION"]),
    status=st.sampled_from([None, "SUCCESS", "FAILURE"]),
    ts=st.integers(NOW - 400_000, NOW + 400_000) | numbers,
    duration_ms=st.none() | st.integers(-1, 10**6) | numbers,
    contexts=st.dictionaries(text | st.sampled_from(KEYS), text, max_size=5)
    | st.just({str(at): "" for at in range(70)}),
)
plain_events = st.builds(
    event,
    event_id=st.uuids().map(str),
    funnel=st.sampled_from(["sign_up", "shop", "none"]),
    step=st.sampled_from(FUNNELS["sign_up"].steps),
    os=st.sampled_from(["iOS", "Android"]),
    phase=st.sampled_from(["IMPRESSION", "POST_VERIFICATION"]),
    status=st.sampled_from(["SUCCESS", "FAILURE"]),
    ts=st.integers(NOW - 400_000, NOW),
    duration_ms=st.none() | st.integers(0, 10**6),
    contexts=st.dictionaries(st.sampled_from(["a", *KEYS]), st.text(max_size=9), max_size=3),
)


def confluent(one: dict[str, Any], schema_id: int) -> bytes:
    """The event as that writer writes it."""
    out = BytesIO()
    out.write(CONFLUENT + struct.pack(">I", schema_id))
    if schema_id == STRANGE_ID:
        one = one | {"browser": one["browser"].encode(), "ts": one["ts"] % 2**31}
    schemaless_writer(out, WRITERS[schema_id], one)
    return out.getvalue()


def damaged(value: bytes, at: int, what: bytes, cut: int) -> bytes:
    """The bytes with some others at one place, in place of as many as ``cut``."""
    at %= len(value) + 1
    return value[:at] + what + value[at + cut :]


good = st.one_of(
    events.map(SINGLE_OBJECT),
    st.builds(confluent, events, st.sampled_from([NEW_ID, OLD_ID, STRANGE_ID])),
    plain_events.map(SINGLE_OBJECT),
    st.builds(confluent, plain_events, st.sampled_from([NEW_ID, OLD_ID])),
)
anything = st.one_of(
    good,
    good,
    st.builds(damaged, good, st.integers(0, 200), st.binary(max_size=3), st.integers(0, 3)),
    st.builds(lambda value, more: value + bytes(more), good, st.integers(1, 30)),
    st.binary(max_size=20).map(lambda rest: bytes.fromhex("0000000001") + rest),
    st.binary(max_size=12),
    st.just(confluent(event(), NEW_ID).replace(b"\0\0\0\1", b"\0\0\0\2")),
    st.none(),
)


def validated(
    values: list[bytes | None], *, in_bulk: bool, limits: Limits = LIMITS
) -> tuple[ValidatedBatch, list[Any]]:
    """The verdicts, and the events as rows."""
    validator = EventValidator(DECODER if in_bulk else DECODER.__call__, FUNNELS, limits, 1_000)
    records = [Record(10 + at, b"k", value, NOW + at) for at, value in enumerate(values)]
    found = validator(RecordBatch(0, 10, 10 + len(values), Records.of(records)), SeenIds(60_000), NOW + 5)
    one = found.accepted
    names = [one.names[number] for number in one.series]
    return found, list(zip(one.offsets, names, one.outcomes, one.ts, one.durations, strict=True))


@settings(max_examples=150)
@given(st.lists(anything, max_size=25), st.sampled_from([LIMITS, SHORT]))
def test_bulk_and_one_by_one_agree_about_every_record(values: list[bytes | None], limits: Limits) -> None:
    """The same events, the same rejections with the same words, the same duplicates; whatever is dropped already."""
    bulk, events_of_bulk = validated(values, in_bulk=True, limits=limits)
    alone, events_alone = validated(values, in_bulk=False, limits=limits)
    assert events_of_bulk == events_alone
    assert bulk.rejected == alone.rejected
    assert bulk.duplicates.tolist() == alone.duplicates.tolist()


def decoded(values: list[bytes]) -> Any:
    """The rows of values, as the decoder in C makes them; whatever the time of an event."""
    decoder = EventDecoder(DECODER, FUNNELS, Limits(2**60, 2**60), 100_000)
    return decoder(Records.of([Record(at, None, value, NOW) for at, value in enumerate(values)]), NOW).rows


@given(st.lists(st.tuples(plain_events, st.sampled_from([0, NEW_ID, OLD_ID])), max_size=25))
def test_events_as_producers_write_them_are_decoded_in_bulk(sent: list[tuple[dict[str, Any], int]]) -> None:
    """Each is plain, whichever of two framings and two versions, with what fastavro reads of it."""
    written = [SINGLE_OBJECT(one) if not schema_id else confluent(one, schema_id) for one, schema_id in sent]
    rows = decoded(written)
    expected = [DECODER(one) for one in written]
    verdicts = [None if one["phase"] == "IMPRESSION" else one["status"] for one in expected]
    assert rows["outcome"].tolist() == [(None, "SUCCESS", "FAILURE").index(one) for one in verdicts]
    assert rows["ts"].tolist() == [one["ts"] for one in expected]
    durations = [NONE if one["duration_ms"] is None else one["duration_ms"] for one in expected]
    assert rows["duration"].tolist() == durations
    assert rows["id"].tolist() == digests_of([one["event_id"] for one in expected]).tolist()
    assert rows["session"].tolist() == digests_of([one["sign_up_session_id"] for one in expected]).tolist()
    counted = [series_of(one, FUNNELS) for one in expected]
    assert len(set(zip(rows["series"].tolist(), counted, strict=True))) == len(set(counted))
    assert (rows["series"] <= PROVISIONAL).all()


@given(plain_events, st.sampled_from(["event_id", "sign_up_session_id"]), st.integers(0, 2_050), st.sampled_from("aü"))
def test_an_id_of_any_length_is_decoded_in_bulk_or_left(one: dict[str, Any], name: str, size: int, of: str) -> None:
    """Up to as many bytes as an id may have characters it is plain, with the digest that every other path gives it."""
    [row] = decoded([SINGLE_OBJECT(one | {name: of * size})])
    assert (row["outcome"] >= 0) == (0 < len((of * size).encode()) <= MAX_ID_LENGTH)
    if row["outcome"] >= 0:
        assert [row["id" if name == "event_id" else "session"]] == digests_of([of * size]).tolist()


@given(st.binary(max_size=40) | st.text(max_size=12).map(str.encode), st.integers(0, 30))
def test_a_text_is_decoded_in_bulk_exactly_where_it_is_utf8(more: bytes, before: int) -> None:
    """Overlong forms, surrogates, numbers of no character and characters that are cut off are left to fastavro."""
    raw, mark, length = b"x" * before + more, "MARK" * 12, BytesIO()
    schemaless_writer(length, "long", len(raw))
    value = SINGLE_OBJECT(event(event_id="e", browser=mark))
    value = value.replace(bytes([len(mark) * 2]) + mark.encode(), length.getvalue() + raw)
    try:
        raw.decode()
    except UnicodeDecodeError:
        is_utf8 = False
    else:
        is_utf8 = True
    [row] = decoded([value])
    assert (row["outcome"] >= 0) == is_utf8


pairs = st.lists(st.tuples(st.sampled_from(["a", *KEYS]), st.sampled_from(["", "v", "w" * 70])), max_size=6)


def with_blocks(one: dict[str, Any], blocks: list[list[tuple[str, str]]], *, sized: bool) -> bytes:
    """The event with contexts of several blocks, in which a key may occur more than once."""
    out = BytesIO()
    for block in blocks:
        entries = BytesIO()
        for part in (part for pair in block for part in pair):
            schemaless_writer(entries, "string", part)
        if block and sized:
            schemaless_writer(out, "long", -len(block))
            schemaless_writer(out, "long", len(entries.getvalue()))
        elif block:
            schemaless_writer(out, "long", len(block))
        out.write(entries.getvalue())
    return SINGLE_OBJECT({**one, "contexts": {}})[:-1] + out.getvalue() + bytes(1)


@given(plain_events, st.lists(pairs, max_size=3), st.booleans())
def test_contexts_of_any_blocks_give_the_values_that_fastavro_gives(
    one: dict[str, Any], blocks: list[list[tuple[str, str]]], sized: bool
) -> None:
    """Of a key that occurs twice the last value counts, in whichever block."""
    value = with_blocks(one, blocks, sized=sized)
    merged = dict(pair for block in blocks for pair in block)
    assert DECODER(value)["contexts"] == merged
    assert validated([value], in_bulk=True)[1] == validated([value], in_bulk=False)[1]
    in_one = SINGLE_OBJECT({**one, "contexts": merged})
    rows = decoded([value, in_one])
    assert (rows["outcome"] >= 0).all()
    assert rows["series"][0] == rows["series"][1]


@given(good, st.integers(1, 400))
def test_a_value_that_is_cut_short_has_no_row(value: bytes, cut: int) -> None:
    """Nor does it take the bytes of the next one for its own."""
    short = value[: max(0, len(value) - cut)]
    try:
        DECODER(short)
    except Undecodable:
        assert decoded([short, value])["outcome"][0] < 0
