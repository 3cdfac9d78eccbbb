"""Further dimensions of events: every call of the client takes them, and they arrive in the event's contexts."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch import (
    FunnelEvent,
    FunnelProducer,
    Phase,
    current_step,
    show_step,
    track_impression,
    track_verification,
)
from funnelwatch.producers.client import quiet
from funnelwatch.producers.client.fields import warn_if_misspelt
from funnelwatch.schemas.dimensions import EVENT_FIELDS, check_dimension_name
from funnelwatch.schemas.events import new_event_id
from funnelwatch.testing import AsyncMemoryProducer, MemoryProducer
from tests.middleware import asgi, wsgi

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN = {"sign_up_session_id": "s-1", "step": "INPUT_NAME", "phase": "IMPRESSION"}


def contexts(memory: MemoryProducer) -> list[dict[str, str]]:
    """The contexts of the events that a producer has."""
    return [event.contexts for event in memory.events]


def test_every_call_takes_further_dimensions() -> None:
    """Fields of an event stay fields, everything else goes into its contexts."""
    memory = MemoryProducer()
    memory.emit(SHOWN, country="DE", os="iOS")
    memory.emit({**SHOWN, "country": "DE"})
    memory.impression("s-1", "INPUT_NAME", country="DE", app_version="5")
    memory.verification("s-1", "INPUT_NAME", "SUCCESS", country="DE")
    with memory.step("s-1", "INPUT_NAME", country="DE") as step:
        step.failure()
    assert contexts(memory) == [{"country": "DE"}] * 6
    assert (memory.events[0].os, memory.events[2].app_version) == ("iOS", "5")
    assert memory.of(country="DE", os="iOS") == memory.events[:1]
    assert memory.of(country="FR") == []


def test_the_asynchronous_client_takes_them_too() -> None:
    """Its calls have the arguments of the other one, also for ``help()``."""

    async def emit(producer: AsyncMemoryProducer) -> None:
        await producer.emit(SHOWN, country="DE")
        await producer.impression("s-1", "INPUT_NAME", country="DE")
        await producer.verification("s-1", "INPUT_NAME", "FAILURE", country="DE", plan=None)

    producer = AsyncMemoryProducer()
    asyncio.run(emit(producer))
    assert contexts(producer.memory) == [{"country": "DE"}] * 3
    assert "shown_at" in inspect.signature(producer.verification).parameters


def test_more_special_dimensions_count_more() -> None:
    """The producer's defaults, then contexts, then the call; None stands for absent."""
    memory = MemoryProducer(country="DE", plan="free", contexts={"build": "7"})
    memory.impression("s-1", "INPUT_NAME", contexts={"plan": "pro"}, country="FR", variant="b")
    memory.impression("s-1", "INPUT_NAME", country=None, os=None)
    memory.emit(FunnelEvent(**{**SHOWN, "phase": Phase.IMPRESSION}, contexts={"country": "AT"}))
    with memory.step("s-1", "INPUT_NAME", country="CH") as step:
        step.failure(country="IT", error="TYPO")
    default = {"build": "7", "country": "DE", "plan": "free"}
    assert contexts(memory) == [
        {"build": "7", "country": "FR", "plan": "pro", "variant": "b"},
        default,
        default | {"country": "AT"},
        default | {"country": "CH"},
        default | {"country": "IT", "error": "TYPO"},
    ]
    assert memory.events[1].os == "unknown"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.impression("s", "A", status="SUCCESS"), "status: is a field of an event, not a dimension"),
        (lambda p: p.verification("s", "A", "SUCCESS", phase="IMPRESSION"), "phase: is a field of an event"),
        (lambda p: p.step("s", "A", duration_ms="3"), "duration_ms: is a field of an event"),
        (lambda p: p.step("s", "A", Country="DE"), "Country: is not the name of a dimension"),
        (lambda p: p.impression("s", "A", **{"a" * 64: "x"}), "a{64}: is not the name of a dimension"),
        (lambda p: p.impression("s", "A", country=49), "country: 49 is not a text, as dimensions are; right would be"),
        (lambda p: MemoryProducer(step="A"), "step: is a field of an event"),
        (lambda p: MemoryProducer(country=1), "country: 1 is not a text"),
        (lambda p: FunnelProducer(event_id="x"), "event_id: is a field of an event"),
        (lambda p: track_impression(p, "A", ts="1"), "ts: is a field of an event"),
        (lambda p: wsgi(p, lambda *args: [], status="x"), "status: is a field of an event"),
    ],
)
def test_an_impossible_dimension_is_rejected_by_name(call: Callable[[Any], Any], message: str) -> None:
    """Where the app is set up already, or at the call."""
    memory = MemoryProducer()
    with pytest.raises(ValueError, match=f"^{message}"):
        call(memory)
    assert memory.events == []


def test_a_misspelt_field_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """It counts as a dimension, since any name may be one."""
    warn_if_misspelt.cache_clear()
    memory = MemoryProducer()
    for _ in range(2):
        memory.impression("s-1", "INPUT_NAME", app_verison="5", country="DE")
    assert caplog.messages == ["app_verison: counts as a dimension; is it app_version, misspelt?"]
    caplog.clear()
    FunnelProducer(when_ful="drop")
    assert caplog.messages == ["when_ful: counts as a dimension; is it when_full, misspelt?"]


def test_handlers_have_dimensions_of_their_arguments(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a text or a function; one that fails is left out, and the event is emitted."""
    # Another test may have logged within the last ten seconds.
    monkeypatch.setitem(quiet._logged, "at", -quiet.TELL_EVERY_S)
    memory = MemoryProducer()

    @track_verification(memory, "INPUT_NAME", session="sid", country=lambda sid, country: country, plan="free")
    def save(sid: str, country: str | None) -> bool:
        return country != "FR"

    @track_impression(memory, "INPUT_NAME", session="sid", country=lambda sid: {}[sid], plan="free")
    def form(sid: str) -> None: ...

    assert save("s-1", "DE")
    assert not save("s-1", "FR")
    assert save("s-1", None)
    form("s-1")
    plan = {"plan": "free"}
    assert contexts(memory) == [plan | {"country": "DE"}, plan | {"country": "FR"}, plan, plan]
    assert "the dimension country: not emitted: 's-1'" in caplog.text


@pytest.mark.parametrize("around", [wsgi, asgi])
def test_middleware_reads_dimensions_from_the_request(around: Callable[..., Any]) -> None:
    """A text, a function of the request, and those that the app gives for one request."""
    memory = MemoryProducer()

    def app(environ: Any, start: Any) -> list[bytes]:
        current_step().failure(reason="WRONG_CODE", os="web")
        show_step("INPUT_NAME", variant="b")
        start("200 OK", [])
        return [b""]

    ask = around(memory, app, plan="free", method=lambda request: request.method.lower(), nothing=lambda request: None)
    ask("POST", "/sign-up/code")
    of_all = {"plan": "free", "method": "post"}
    assert contexts(memory) == [of_all | {"reason": "WRONG_CODE"}, of_all | {"variant": "b"}]
    assert [event.os for event in memory.events] == ["web", "Android"]


@pytest.mark.parametrize("name", ["country", "a", "plan_2", "a" * 63, "os", "browser", "app_version"])
def test_names_of_dimensions(name: str) -> None:
    """Small letters, digits and underscores; the three fields that are dimensions."""
    assert check_dimension_name(name) == name


@pytest.mark.parametrize("name", ["", "Country", "2nd", "_a", "a-b", "a b", "ä", "a\n", "a" * 64])
def test_no_names_of_dimensions(name: str) -> None:
    """Each fault of a name."""
    with pytest.raises(ValueError, match="is not the name of a dimension"):
        check_dimension_name(name)


@pytest.mark.parametrize("name", sorted(EVENT_FIELDS - {"os", "browser", "app_version"}))
def test_fields_that_are_no_dimensions(name: str) -> None:
    """The message names the field."""
    with pytest.raises(ValueError, match=f"^{name}: is a field of an event, not a dimension"):
        check_dimension_name(name)


def test_ids_are_random_uuids() -> None:
    """Of version 4, in their usual form."""
    made = [new_event_id() for _ in range(1_000)]
    assert len(set(made)) == 1_000
    for one in made:
        parsed = uuid.UUID(one)
        assert (parsed.version, parsed.variant, str(parsed)) == (4, uuid.RFC_4122, one)
