"""A real schema registry (Apicurio, by Confluent's API): register, evolve, reject, and both framings on one topic."""

from __future__ import annotations

import json
import urllib.request
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch import FunnelProducer
from funnelwatch.schemas.codec import Decoder, Encoder, Reason, Registry, RegistryRejected, Undecodable
from funnelwatch.schemas.files import SCHEMAS
from tests.apicurio import NoRegistryError, apicurio
from tests.stack import wait_until
from tests.traffic import STEPS, event, everything, prepared, produce, totals
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings

SUBJECT = "funnelwatch.FunnelEvent"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; every subject must stay compatible, both ways, with all that came before."""
    try:
        with apicurio(tmp_path_factory.mktemp("apicurio") / "log") as url:
            request = urllib.request.Request(
                f"{url}/config",
                json.dumps({"compatibility": "FULL_TRANSITIVE"}).encode(),
                {"Content-Type": "application/vnd.schemaregistry.v1+json"},
                method="PUT",
            )
            urllib.request.urlopen(request, timeout=90).close()
            yield url
    except NoRegistryError as error:
        pytest.skip(f"NOT TESTED: no real schema registry: {error}")


def with_field(**field: Any) -> dict[str, Any]:
    """Our schema of events with one field more."""
    schema = {key: value for key, value in deepcopy(SCHEMAS["FunnelEvent"]).items() if not key.startswith("__")}
    schema["fields"].append(field)
    return schema


def test_a_schema_is_registered_evolves_and_is_rejected(registry: str) -> None:
    """What is compatible becomes a version; what is not is rejected with the registry's reason; ids lead to schemas."""
    ours = Registry(registry)
    encode = Encoder("FunnelEvent", ours)
    one = event()
    value = encode(one)
    assert value[:1] == b"\x00"
    assert Decoder("FunnelEvent", Registry(registry))(value) == one

    newer = ours.register(SUBJECT, with_field(name="country", type="string", default=""))
    first = int.from_bytes(value[1:5], "big")
    assert newer != first
    assert Encoder("FunnelEvent", Registry(registry)).register() == value[:5]
    # A writer that has gone on with the newer schema is understood.
    theirs = b"\x00" + newer.to_bytes(4, "big") + value[5:] + b"\x04DE"
    assert Decoder("FunnelEvent", Registry(registry))(theirs) == one

    with pytest.raises(RegistryRejected, match=f"rejects the schema of subject {SUBJECT}: .*ncompatible"):
        ours.register(SUBJECT, with_field(name="must", type="string"))
    with pytest.raises(Undecodable) as unknown:
        Decoder("FunnelEvent", Registry(registry))(b"\x00" + (10**6).to_bytes(4, "big") + value[5:])
    assert unknown.value.reason is Reason.UNKNOWN_SCHEMA_ID


def test_an_event_of_a_schema_with_references_is_read(registry: str) -> None:
    """A registry that speaks the real protocol returns the references, also of a version that was deleted."""
    schema = with_field(name="country", type={"type": "record", "name": "geo.Country", "fields": []}, default={})
    reference = {"name": "geo.Country", "subject": "geo/Country", "version": 1}
    country = schema["fields"][-1]["type"]
    schema["fields"][-1]["type"] = "geo.Country"

    def register(subject: str, **body: Any) -> int:
        request = urllib.request.Request(
            f"{registry}/subjects/{subject}/versions",
            json.dumps(body).encode(),
            {"Content-Type": "application/vnd.schemaregistry.v1+json"},
        )
        with urllib.request.urlopen(request, timeout=90) as answer:
            return int(json.load(answer)["id"])

    register("geo%2FCountry", schema=json.dumps(country))
    own = register("references", schema=json.dumps(schema), references=[reference])
    one = event()
    value = b"\x00" + own.to_bytes(4, "big") + Encoder("FunnelEvent")(one)[10:]
    assert Decoder("FunnelEvent", Registry(registry))(value) == one


def test_both_framings_are_counted_from_one_topic(registry: str, settings: Settings) -> None:
    """Producers with and without the registry share a topic while they are changed over; an unknown id is rejected."""
    mine = prepared(settings.model_copy(update={"schema_registry_url": registry}))
    with worker(mine) as running:
        running.wait_assigned()
        with FunnelProducer(mine) as producer:
            producer.emit(event())  # the registry is asked with the first
            producer.flush()
            wait_until(lambda: framings(mine) or not producer.emit(event()), "it has the schema's id")
            for step in STEPS:
                producer.emit(event(step=step))
        unknown = b"\x00" + (10**6).to_bytes(4, "big") + b"garbage"
        produce(mine, [event(), event(os="Android"), unknown])
        sent = len(list(everything(mine, mine.events_topic)))
        assert len(framings(mine)) >= len(STEPS)
        wait_until(lambda: totals(mine)["counted"] == sent - 1 and totals(mine)["rejected"] == 1, running.text(), 120)
        assert running.stop() == 0


def framings(settings: Settings) -> list[bytes]:
    """The events on the topic that are in Confluent framing."""
    values = [message.value() for message in everything(settings, settings.events_topic)]
    return [value for value in values if value[:1] == b"\x00" and not value.endswith(b"garbage")]
