"""Middleware and decorators: what an app's requests and functions become, and that they never harm it."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from funnelwatch import FunnelWsgi, current_step, track_impression, track_verification
from funnelwatch.testing import MemoryProducer
from tests.middleware import STEPS, answers, asgi, sent_back, wsgi


class Broken:
    """A producer at its worst."""

    def emit(self, event: Any, /) -> bool:
        """Raise, whatever the event."""
        raise RuntimeError("the producer is closed")


@pytest.fixture(params=[wsgi, asgi])
def server(request: pytest.FixtureRequest) -> Any:
    """Both ways, one after the other: what is tested so is the same for both."""
    return request.param


def test_showing_and_verifying_are_one_session(server: Any) -> None:
    """The cookie of the impression makes the verification that of the same person, with its duration."""
    kept = MemoryProducer()
    ask = server(kept, answers("200 OK"), app_version="5.2.0")
    status, headers = ask("GET", "/sign-up/code")
    assert status == 200
    assert re.search(r"; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax$", headers["Set-Cookie"])
    ask("POST", "/sign-up/code", sent_back(headers))
    shown, verified = kept.events
    assert (shown.phase, shown.step, shown.os, shown.browser) == (
        "IMPRESSION",
        "VERIFY_SMS_CODE",
        "Android",
        "Chrome",
    )
    assert (verified.phase, verified.status, verified.app_version) == ("POST_VERIFICATION", "SUCCESS", "5.2.0")
    assert verified.sign_up_session_id == shown.sign_up_session_id
    assert verified.duration_ms == verified.ts - shown.ts


@pytest.mark.parametrize(
    ("method", "path", "status", "events"),
    [
        ("GET", "/sign-up/code", "404 Not Found", []),
        ("HEAD", "/sign-up/code", "200 OK", []),
        ("GET", "/sign-up/other", "200 OK", []),
        ("GET", "/sign-up/7/name", "200 OK", [("INPUT_NAME", "IMPRESSION", None)]),
        ("POST", "/sign-up/code", "302 Found", [("VERIFY_SMS_CODE", "POST_VERIFICATION", "SUCCESS")]),
        ("PUT", "/sign-up/code", "422 Unprocessable", [("VERIFY_SMS_CODE", "POST_VERIFICATION", "FAILURE")]),
        ("POST", "/sign-up/code", "503 Away", [("VERIFY_SMS_CODE", "POST_VERIFICATION", "FAILURE")]),
    ],
)
def test_method_and_status_say_what_happened(server: Any, method: str, path: str, status: str, events: Any) -> None:
    """What is not a step is nobody's business."""
    kept = MemoryProducer()
    server(kept, answers(status))(method, path)
    assert [(event.step, event.phase, event.status) for event in kept.events] == events


def test_the_app_has_the_last_word(server: Any) -> None:
    """A form that is shown again with status 200 says so."""

    def app(environ: Any, start: Any) -> list[bytes]:
        current_step().failure(reason="WRONG_CODE")
        return list(answers("200 OK")(environ, start))

    kept = MemoryProducer()
    server(kept, app)("POST", "/sign-up/code")
    (event,) = kept.events
    assert (event.status, event.contexts) == ("FAILURE", {"reason": "WRONG_CODE"})
    current_step().failure()  # outside of a request: nothing
    assert len(kept.events) == 1


def test_an_exception_of_the_app_is_a_failure_and_goes_on(server: Any) -> None:
    """Its name is kept."""

    def app(environ: Any, start: Any) -> list[bytes]:
        raise LookupError("no such code")

    kept = MemoryProducer()
    for method in ("GET", "POST"):
        with pytest.raises(LookupError):
            server(kept, app)(method, "/sign-up/code")
    (event,) = kept.events
    assert (event.status, event.contexts) == ("FAILURE", {"error": "LookupError"})


def test_an_app_that_is_a_generator_has_the_last_word_as_well() -> None:
    """It begins when the server asks for the first part; its clean-up is called."""
    ended = []

    def app(environ: Any, start: Any) -> Any:
        try:
            current_step().failure(reason="WRONG_CODE")
            start("200 OK", [])
            yield b"once "
            yield b"more"
        finally:
            ended.append(True)

    kept = MemoryProducer()
    environ: dict[str, Any] = {"REQUEST_METHOD": "POST", "PATH_INFO": "/sign-up/code"}
    setup_testing_defaults(environ)
    body: Any = FunnelWsgi(app, kept, STEPS)(environ, lambda *_: lambda data: None)
    assert b"".join(body) == b"once more"
    body.close()
    assert ended
    (event,) = kept.events
    assert (event.status, event.contexts) == ("FAILURE", {"reason": "WRONG_CODE"})


@pytest.mark.parametrize(
    "cookie",
    ["funnel_session=", "funnel_session=a.b", "funnel_session=" + "x" * 5000, "=;;", 'funnel_session="\\', "é=ü; ="],
)
def test_a_cookie_that_somebody_made_up_does_no_harm(server: Any, cookie: str) -> None:
    """At worst it begins a new session."""
    kept = MemoryProducer()
    assert server(kept, answers("200 OK"))("POST", "/sign-up/code", cookie)[0] == 200
    (event,) = kept.events
    assert 0 < len(event.sign_up_session_id) <= 100
    assert event.duration_ms is None


def test_the_apps_own_session_may_be_used(server: Any) -> None:
    """No cookie of ours then."""
    kept = MemoryProducer()
    ask = server(kept, answers("200 OK"), session=lambda request: request.headers["cookie"].partition("=")[2])
    _, headers = ask("GET", "/sign-up/code", "sid=mine")
    assert "Set-Cookie" not in headers
    assert kept.events[0].sign_up_session_id == "mine"


def test_an_error_of_the_instrumentation_breaks_nothing(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A producer that raises, and fields that cannot be so."""
    for producer, more in ((Broken(), {}), (MemoryProducer(), {"os": 5})):
        ask = server(producer, answers("200 OK"), **more)
        assert ask("GET", "/sign-up/code")[0] == 200
        assert ask("POST", "/sign-up/code")[0] == 200


def test_decorated_handlers_emit_what_they_show_and_verify() -> None:
    """An exception, or False, is a failure; the result is the function's own."""
    kept = MemoryProducer()

    @track_impression(kept, "VERIFY_SMS_CODE", os="iOS")
    def show(session_id: str) -> str:
        return "page"

    @track_verification(kept, "VERIFY_SMS_CODE", session="sid", os="iOS")
    def verify(code: str, *, sid: str) -> bool:
        if not code:
            raise LookupError(code)
        return code == "1234"

    assert show("s-1") == "page"
    assert [verify("1234", sid="s-1"), verify("9", sid="s-1")] == [True, False]
    with pytest.raises(LookupError):
        verify("", sid="s-1")
    assert [event.status for event in kept.events] == [None, "SUCCESS", "FAILURE", "FAILURE"]
    assert kept.events[-1].contexts == {"error": "LookupError"}
    assert {event.sign_up_session_id for event in kept.events} == {"s-1"}
    with pytest.raises(TypeError, match="has no argument 'session_id'; name the one"):
        track_verification(kept, "X")(lambda other: other)


def test_coroutines_are_told_when_they_have_ended() -> None:
    """As functions."""
    kept = MemoryProducer()

    @track_verification(kept, "INPUT_NAME", session=lambda request: str(request["session"]))
    async def verify(request: dict[str, str]) -> None:
        await asyncio.sleep(0)
        if "name" not in request:
            raise ValueError("name")

    asyncio.run(verify({"session": "s-1", "name": "x"}))
    with pytest.raises(ValueError, match="name"):
        asyncio.run(verify({"session": "s-2"}))
    assert [(event.sign_up_session_id, event.status) for event in kept.events] == [
        ("s-1", "SUCCESS"),
        ("s-2", "FAILURE"),
    ]


def test_decorated_functions_go_on_when_the_producer_does_not() -> None:
    """Neither does a wrong call change."""

    @track_verification(Broken(), "INPUT_NAME")
    def verify(session_id: str) -> str:
        return session_id

    assert verify("s-1") == "s-1"
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        verify()  # type: ignore[call-arg]
