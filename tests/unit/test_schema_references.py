"""Registered schemas that refer to others, as Confluent's registry keeps them, and schemas that are not ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.schemas.codec import Decoder, Encoder, Reason, RegistryUnavailable, Undecodable
from funnelwatch.schemas.files import HERE
from funnelwatch.schemas.registry import MAX_REFERENCES, Registry
from funnelwatch.schemas.validation import Limits
from funnelwatch.stream.intake.batches import DOUBTFUL, SUCCESS, Record, Records
from funnelwatch.stream.native.event_decoder import EventDecoder
from tests.fake_registry import FakeRegistry, fake_registry
from tests.traffic import event

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENT = event(phase="POST_VERIFICATION", status="SUCCESS", duration_ms=5)
BODY = Encoder("FunnelEvent")(EVENT)[10:]
ID = 4
VALUE = b"\x00" + ID.to_bytes(4, "big") + BODY


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    """A registry without schemas."""
    with fake_registry() as running:
        yield running


def referring(*names: str) -> list[dict[str, Any]]:
    """References to the first version of subjects that are called as their types are."""
    return [{"name": name, "subject": f"team/{name}", "version": 1} for name in names]


def split(server: FakeRegistry) -> None:
    """Register our schema of events with its enums as schemas of their own; that of the status refers to a third."""
    schema = json.loads((HERE / "funnel_event.avsc").read_text())
    enums = {}
    for field in schema["fields"]:
        for part in field["type"] if isinstance(field["type"], list) else [field["type"]]:
            if isinstance(part, dict) and part["type"] == "enum":
                name = f"{schema['namespace']}.{part['name']}"
                enums[name] = {**part, "namespace": schema["namespace"]}
                kind = field["type"]
                field["type"] = ["null", name] if isinstance(kind, list) else name
    assert len(enums) == 2
    unused = {"type": "record", "name": "x.Unused", "fields": [{"name": "a", "type": next(iter(enums))}]}
    for name, one in enums.items():
        server.versions[f"team/{name}", "1"] = {"schema": json.dumps(one)}
    server.schemas[ID] = {"schema": json.dumps(schema), "references": referring("x.Unused", *enums)}
    refers = {"schema": json.dumps(unused), "references": referring(next(iter(enums)))}
    server.versions["team/x.Unused", "1"] = refers


def decoded(decode: Decoder, *values: bytes) -> Any:
    """The rows that the decoder in C makes of values."""
    records = Records.of([Record(at, None, value, 0) for at, value in enumerate(values)])
    return EventDecoder(decode, {}, Limits(2**60, 2**60), 10_000)(records, EVENT["ts"]).rows


def test_an_event_of_a_schema_with_references_is_read(server: FakeRegistry) -> None:
    """Each referenced schema is fetched once, also a deleted version; one by one and in bulk the event is the same."""
    split(server)
    decode = Decoder("FunnelEvent", Registry(server.url))
    for _ in range(3):
        assert decode(VALUE) == EVENT
    assert len(server.asked) == 4
    assert all(path.endswith("?deleted=true") for path in server.asked[1:])
    rows = decoded(decode, VALUE, VALUE)
    assert rows["outcome"].tolist() == [SUCCESS, SUCCESS]
    assert rows["ts"].tolist() == [EVENT["ts"]] * 2


def test_a_schema_that_is_only_a_reference_or_a_union_of_them_is_read(server: FakeRegistry) -> None:
    """Several types of event on one topic; those that are not ours are rejected."""
    ours = (HERE / "funnel_event.avsc").read_text()
    name = "funnelwatch.FunnelEvent"
    server.versions[f"team/{name}", "1"] = {"schema": ours}
    server.versions["team/x.Other", "1"] = {"schema": '{"type": "record", "name": "x.Other", "fields": []}'}
    server.schemas[ID] = {"schema": json.dumps(name), "references": referring(name)}
    decode = Decoder("FunnelEvent", Registry(server.url))
    assert decode(VALUE) == EVENT
    server.schemas[5] = {"schema": json.dumps([name, "x.Other"]), "references": referring(name, "x.Other")}
    assert decode(b"\x00\x00\x00\x00\x05\x00" + BODY) == EVENT
    with pytest.raises(Undecodable) as caught:
        decode(b"\x00\x00\x00\x00\x05\x02")
    assert caught.value.reason is Reason.INCOMPATIBLE_SCHEMA
    assert decoded(decode, b"\x00\x00\x00\x00\x05\x00" + BODY)["outcome"].tolist() == [DOUBTFUL]


def test_a_reference_that_cannot_be_looked_up_now_is_an_outage(server: FakeRegistry) -> None:
    """The event waits, and is read once the registry answers."""
    split(server)
    decode = Decoder("FunnelEvent", Registry(server.url))
    answer = server.answer

    def flaky(method: str, path: str, body: bytes) -> tuple[int, str]:
        return (503, "{}") if path.startswith("/subjects/") else answer(method, path, body)

    server.answer = flaky  # type: ignore[method-assign]
    with pytest.raises(RegistryUnavailable):
        decode(VALUE)
    server.answer = answer  # type: ignore[method-assign]
    assert decode(VALUE) == EVENT


def chain(length: int) -> dict[tuple[str, str], dict[str, Any]]:
    """Schemas of which each refers to the next."""
    return {
        (f"team/{number}", "1"): {"schema": '"string"', "references": referring(str(number + 1))}
        for number in range(length)
    }


@pytest.mark.parametrize(
    ("answer", "versions", "cause"),
    [
        ({"references": referring("x.A")}, {}, "has no version 1 of subject team/x.A, to which schema 4 refers"),
        (
            {"references": referring("x.A")},
            {("team/x.A", "2"): {"schema": "{}"}},
            "has no version 1 of subject team/x.A, to which schema 4 refers",
        ),
        (
            {"references": referring("x.A")},
            {("team/x.A", "1"): {"schema": "syntax = 3", "schemaType": "PROTOBUF"}},
            "version 1 of subject team/x.A, to which schema 4 refers, .* is PROTOBUF, not Avro",
        ),
        ({"references": referring("x.A")}, {("team/x.A", "1"): {"schema": "{"}}, "team/x.A.* is not JSON"),
        ({"references": [{"name": "x.A"}]}, {}, "schema 4 .* has a reference without subject and version"),
        ({"references": ["x.A"]}, {}, "schema 4 .* has a reference without subject and version"),
        ({"references": referring("0")}, chain(MAX_REFERENCES + 2), f"refers to more than {MAX_REFERENCES} schemas"),
        ({"references": []}, {}, r"schema 4 cannot be used: UnknownType: x\.A"),
        ({"schema": "{}", "schemaType": "JSON"}, {}, "schema 4 .* is JSON, not Avro"),
        ({"schema": "{}", "schemaType": "PROTOBUF"}, {}, "schema 4 .* is PROTOBUF, not Avro"),
    ],
)
def test_what_cannot_be_resolved_is_a_dead_letter_with_its_cause(
    server: FakeRegistry, answer: dict[str, Any], versions: dict[tuple[str, str], dict[str, Any]], cause: str
) -> None:
    """The registry has answered: waiting cannot help. A flood of such events asks it once."""
    needy = '{"type": "record", "name": "x.B", "fields": [{"name": "a", "type": "x.A"}]}'
    server.schemas[ID] = {"schema": needy, **answer}
    server.versions = versions
    decode = Decoder("FunnelEvent", Registry(server.url))
    asked = []
    for _ in range(3):
        with pytest.raises(Undecodable, match=cause) as caught:
            decode(VALUE)
        assert caught.value.reason is Reason.UNKNOWN_SCHEMA_ID
        asked.append(len(server.asked))
    assert len(set(asked)) == 1


def test_schemas_that_refer_to_each_other_end(server: FakeRegistry) -> None:
    """A circle is no endless loop."""
    server.schemas[ID] = {"schema": '"x.A"', "references": referring("x.A")}
    for one, other in (("x.A", "x.B"), ("x.B", "x.A")):
        fields = [{"name": "a", "type": other}]
        record = {"type": "record", "name": one, "fields": fields}
        server.versions[f"team/{one}", "1"] = {"schema": json.dumps(record), "references": referring(other)}
    with pytest.raises(Undecodable, match="schema 4 cannot be used"):
        Decoder("FunnelEvent", Registry(server.url))(VALUE)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "record", "name": "shop.Order", "fields": [{"name": "a", "type": "string"}]},
        {"type": "record", "name": "funnelwatch.FunnelEvent", "fields": [{"name": "event_id", "type": "long"}]},
        "string",
    ],
)
def test_a_schema_that_is_not_ours_is_named(server: FakeRegistry, schema: Any) -> None:
    """Another team's events on the topic: the dead letter says whose schema it is, shortly."""
    server.schemas[ID] = {"schema": json.dumps(schema)}
    name = schema["name"] if isinstance(schema, dict) else "string"
    with pytest.raises(Undecodable) as caught:
        Decoder("FunnelEvent", Registry(server.url))(VALUE)
    assert caught.value.reason is Reason.INCOMPATIBLE_SCHEMA
    assert caught.value.detail.startswith("schema 4 (")
    assert f"{name}) cannot be read as funnelwatch.FunnelEvent: " in caught.value.detail
    assert len(caught.value.detail) < 450
