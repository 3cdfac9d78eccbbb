"""Apps that answer JSON: impressions by an endpoint of the middleware, and by what the server itself says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from funnelwatch import show_step
from funnelwatch.testing import MemoryProducer
from tests.middleware import answers, asgi, sent_back, wsgi

PATH = "/funnel/impressions"
JSON = "application/json; charset=utf-8"


@pytest.fixture(params=[wsgi, asgi])
def server(request: pytest.FixtureRequest) -> Any:
    """Both ways, one after the other."""
    return request.param


def shown(step: Any) -> dict[str, Any]:
    """The request of a page that shows a step."""
    return {"method": "POST", "path": PATH, "body": json.dumps({"step": step}).encode(), "content_type": JSON}


def test_the_endpoint_emits_the_impression_of_the_verification_that_follows(server: Any) -> None:
    """One session, and the duration between the two."""
    kept = MemoryProducer()
    ask = server(kept, answers("200 OK"), impressions_path=PATH)
    status, headers = ask(**shown("INPUT_NAME"))
    assert status == 204
    assert ask("POST", "/api/name", sent_back(headers))[0] == 200
    first, second = kept.events
    assert (first.step, first.phase, first.os) == ("INPUT_NAME", "IMPRESSION", "Android")
    assert (second.step, second.status) == ("INPUT_NAME", "SUCCESS")
    assert second.sign_up_session_id == first.sign_up_session_id
    assert second.duration_ms == second.ts - first.ts


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"method": "GET"}, 405),
        ({"content_type": "text/plain"}, 415),
        ({"body": b"{"}, 400),
        ({"body": b"[" * 900}, 400),
        ({"body": b"\xff"}, 400),
        ({"body": b"[]"}, 422),
        ({"body": b'{"step": 7}'}, 422),
        ({"body": b'{"step": "INVENTED"}'}, 422),
        ({"body": b""}, 400),
        ({"body": b'{"step": "INPUT_NAME", "x": "' + b"x" * 1_000 + b'"}'}, 413),
    ],
    ids=["method", "type", "cut", "deep", "no-utf8", "list", "number", "undeclared", "empty", "long"],
)
def test_the_endpoint_rejects_anything_else(server: Any, change: dict[str, Any], status: int) -> None:
    """No event, no cookie, and the app never sees it."""
    kept = MemoryProducer()

    def app(environ: Any, start: Any) -> list[bytes]:
        raise AssertionError("the app was asked")

    got, headers = server(kept, app, impressions_path=PATH)(**{**shown("INPUT_NAME"), **change})
    assert (got, kept.events) == (status, [])
    assert "Set-Cookie" not in headers
    assert headers.get("Allow") == ("POST" if status == 405 else None)


def test_without_a_path_there_is_no_endpoint(server: Any) -> None:
    """The app answers."""
    kept = MemoryProducer()
    assert server(kept, answers("404 Not Found"))(**shown("INPUT_NAME"))[0] == 404
    assert kept.events == []


def test_the_server_says_which_step_its_answer_shows(server: Any) -> None:
    """On the path of another step: the input of one is verified, and the next is shown."""

    def app(environ: Any, start: Any) -> list[bytes]:
        show_step("INPUT_NAME", variant="b")
        return list(answers("200 OK")(environ, start))

    kept = MemoryProducer()
    ask = server(kept, app)
    _, headers = ask("POST", "/sign-up/code")
    ask("POST", "/api/name", sent_back(headers))
    assert [(event.step, event.status) for event in kept.events] == [
        ("VERIFY_SMS_CODE", "SUCCESS"),
        ("INPUT_NAME", None),
        ("INPUT_NAME", "SUCCESS"),
        ("INPUT_NAME", None),
    ]
    assert len({event.sign_up_session_id for event in kept.events}) == 1
    assert kept.events[1].contexts == {"variant": "b"}
    assert kept.events[2].duration_ms == kept.events[2].ts - kept.events[1].ts


@pytest.mark.parametrize(("status", "impressions"), [("200 OK", 1), ("500 Oops", 0)])
def test_a_step_is_shown_on_any_path_but_not_by_an_error(server: Any, status: str, impressions: int) -> None:
    """A path of no step sets the cookie only when a step is shown."""

    def app(environ: Any, start: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/api/next":
            show_step("INPUT_NAME")
        return list(answers(status)(environ, start))

    kept = MemoryProducer()
    ask = server(kept, app)
    assert "Set-Cookie" not in ask("GET", "/api/other")[1]
    assert ("Set-Cookie" in ask("GET", "/api/next")[1]) == bool(impressions)
    assert len(kept.of(step="INPUT_NAME", phase="IMPRESSION")) == impressions


def test_show_step_outside_of_a_request_does_nothing() -> None:
    """As in a job that shares code with the app."""
    show_step("INPUT_NAME")


@pytest.mark.parametrize(
    ("method", "path", "emitted"),
    [("POST", "/api/name", 1), ("GET", "/api/name", 0), ("PUT", "/api/name", 0)],
)
def test_a_step_may_name_its_method(server: Any, method: str, path: str, emitted: int) -> None:
    """Other methods of the path are the app's own."""
    kept = MemoryProducer()
    server(kept, answers("200 OK"))(method, path)
    assert len(kept.events) == emitted


@pytest.mark.parametrize("key", ["sign-up", "FETCH /sign-up", "", "post /sign-up"])
def test_a_key_that_is_no_path_is_rejected_at_once(key: str) -> None:
    """The message shows both forms."""
    from funnelwatch import FunnelWsgi

    with pytest.raises(ValueError, match=r"^steps: .* is no path; right would be like '/sign-up/code' or 'POST /api"):
        FunnelWsgi(answers("200 OK"), MemoryProducer(), {key: "INPUT_NAME"})
