"""Confluent framing with a registry: ids, caching, and outages that are never mistaken for bad events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.schemas.codec import Decoder, Encoder, Reason, RegistryUnavailable, Undecodable
from funnelwatch.schemas.files import HERE
from funnelwatch.schemas.registry import UNKNOWN_KEPT_S, Registry, RegistryRejected
from tests.fake_registry import FakeRegistry, fake_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENT: dict[str, Any] = {
    "event_id": "e-1",
    "funnel": "sign_up",
    "sign_up_session_id": "s-1",
    "step": "A",
    "os": "iOS",
    "browser": "",
    "app_version": "",
    "phase": "IMPRESSION",
    "status": None,
    "ts": 1,
    "duration_ms": None,
    "contexts": {},
}
BODY = Encoder("FunnelEvent")(EVENT)[10:]


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    """A registry without schemas."""
    with fake_registry() as running:
        yield running


def framed(schema_id: int) -> bytes:
    """The event in Confluent framing."""
    return b"\x00" + schema_id.to_bytes(4, "big") + BODY


def test_an_event_goes_through_the_registry_and_back(server: FakeRegistry) -> None:
    """The schema is registered once under its full name, and looked up once."""
    encode = Encoder("FunnelEvent", Registry(server.url))
    decode = Decoder("FunnelEvent", Registry(server.url))
    for _ in range(3):
        assert encode(EVENT) == framed(7)
        assert decode(encode(EVENT)) == EVENT
    assert server.asked == ["POST /subjects/funnelwatch.FunnelEvent/versions", "GET /schemas/ids/7"]


def test_a_subject_of_ones_own_is_used(server: FakeRegistry) -> None:
    """A slash in a subject does not change the path."""
    Encoder("FunnelEvent", Registry(server.url), "team/funnel.events-value").register()
    assert server.asked == ["POST /subjects/team%2Ffunnel.events-value/versions"]


def test_another_writers_schema_is_resolved_to_ours(server: FakeRegistry) -> None:
    """A writer whose schema has a field more and no contexts is understood."""
    theirs = json.loads((HERE / "funnel_event.avsc").read_text())
    theirs["fields"][-1] = {"name": "country", "type": "string", "default": ""}
    server.schemas[3] = {"schema": json.dumps(theirs)}
    value = b"\x00\x00\x00\x00\x03" + BODY[:-1] + b"\x04DE"
    assert Decoder("FunnelEvent", Registry(server.url))(value) == EVENT


def test_an_unknown_id_is_undecodable_and_asked_for_again_after_a_while(server: FakeRegistry) -> None:
    """A flood of one unknown id is one request; a registry that lagged behind is believed later."""
    now = 0.0
    decode = Decoder("FunnelEvent", Registry(server.url, clock=lambda: now))
    for _ in range(3):
        with pytest.raises(Undecodable) as caught:
            decode(framed(9))
        assert caught.value.reason == Reason.UNKNOWN_SCHEMA_ID
    assert len(server.asked) == 1

    server.schemas[9] = {"schema": (HERE / "funnel_event.avsc").read_text()}
    now = UNKNOWN_KEPT_S + 1
    assert decode(framed(9)) == EVENT


def test_an_id_that_no_registry_has_is_not_even_asked_for(server: FakeRegistry) -> None:
    """Garbage with the sign bit set in its id costs no request."""
    with pytest.raises(Undecodable, match="UNKNOWN_SCHEMA_ID"):
        Decoder("FunnelEvent", Registry(server.url))(framed(2**31))
    assert server.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        {"schema": "{}", "schemaType": "PROTOBUF"},
        {"schema": "no JSON"},
        {"schema": '{"type": "record"}'},
        {"schema": '{"type": "record", "name": "A", "fields": [{"name": "a", "type": "elsewhere.B"}]}'},
    ],
    ids=["protobuf", "no JSON", "no Avro", "references"],
)
def test_a_schema_that_cannot_be_used_is_undecodable(server: FakeRegistry, answer: dict[str, str]) -> None:
    """What the registry clearly says, but what is no schema for us, is the event's error."""
    server.schemas[4] = answer
    with pytest.raises(Undecodable, match="UNKNOWN_SCHEMA_ID"):
        Decoder("FunnelEvent", Registry(server.url))(framed(4))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, '{"error_code": 50001, "message": "down"}'),
        (503, "<html>busy</html>"),
        (404, "<html>not here</html>"),
        (404, '{"error_code": 404, "message": "HTTP 404 Not Found"}'),
        (401, '{"error_code": 401, "message": "who?"}'),
        (429, "{}"),
    ],
)
def test_an_outage_is_never_the_events_error(server: FakeRegistry, status: int, body: str) -> None:
    """Neither a server's error, a proxy's page nor missing rights make an event undecodable; later it decodes."""
    server.schemas[5] = {"schema": (HERE / "funnel_event.avsc").read_text()}
    decode = Decoder("FunnelEvent", Registry(server.url))
    server.status, server.body = status, body
    with pytest.raises(RegistryUnavailable):
        decode(framed(5))

    server.status = 200
    assert decode(framed(5)) == EVENT


def test_a_registry_that_is_not_there_is_an_outage() -> None:
    """A rejected connection is named with the address."""
    with fake_registry() as gone:
        url = gone.url
    with pytest.raises(RegistryUnavailable, match=url):
        Decoder("FunnelEvent", Registry(url))(framed(5))


def test_a_rejected_schema_says_why(server: FakeRegistry) -> None:
    """An incompatible schema is no outage: trying again does not help."""
    server.status, server.body = 409, '{"error_code": 409, "message": "READER_FIELD_MISSING_DEFAULT_VALUE"}'
    with pytest.raises(RegistryRejected, match="READER_FIELD_MISSING_DEFAULT_VALUE"):
        Encoder("FunnelEvent", Registry(server.url))(EVENT)


def test_user_and_password_of_the_address_are_sent_and_not_shown(server: FakeRegistry) -> None:
    """Basic authentication, and no password in a message."""
    registry = Registry(server.url.replace("//", "//me:p%40ss@"))
    registry.register("a", {})
    assert server.authorization == "Basic bWU6cEBzcw=="
    assert registry.url == server.url


def test_an_address_that_is_none_is_rejected() -> None:
    """The message has an example."""
    with pytest.raises(ValueError, match="http://host:8081"):
        Registry("localhost:8081")
