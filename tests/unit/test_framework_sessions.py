"""``session=`` reads the sessions of Django, Flask and Starlette: one person is one session of the funnel."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import django
import flask
import pytest
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from fastapi import FastAPI
from starlette.middleware.sessions import SessionMiddleware
from werkzeug.test import Client

from funnelwatch import FunnelAsgi, FunnelWsgi, sessions, show_step
from funnelwatch.testing import MemoryProducer

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[..., int]

STEPS = {"/code": "VERIFY_SMS_CODE", "POST /api/name": "INPUT_NAME"}
IMPRESSIONS = "/funnel/impressions"


def django_view(request: HttpRequest) -> HttpResponse:
    """Answer; another path than a step's shows one."""
    if request.path == "/next":
        show_step("INPUT_NAME")
    return HttpResponse("x")


urlpatterns = [path(name, django_view) for name in ("code", "api/name", "other", "next")]


@pytest.fixture
def in_django() -> None:
    """Django, configured once in this process."""
    if not django_settings.configured:
        django_settings.configure(
            SECRET_KEY="s",
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=__name__,
            USE_TZ=True,
            SESSION_ENGINE="django.contrib.sessions.backends.cache",
            MIDDLEWARE=[
                "django.contrib.sessions.middleware.SessionMiddleware",
                "funnelwatch.sessions.DjangoSession",
            ],
        )
        django.setup()


def by_wsgi(app: Any) -> Ask:
    """A browser that keeps cookies, of a WSGI app."""
    client = Client(app)

    def ask(method: str, path: str, body: Any = None) -> int:
        return int(client.open(path, method=method, json=body).status_code)

    ask.cookies = lambda: {cookie.key for cookie in client._cookies.values()} if client._cookies else set()  # type: ignore[attr-defined]
    return ask


def by_asgi(app: Any) -> Ask:
    """A browser that keeps cookies, of an ASGI app."""
    jar: dict[str, str] = {}

    def ask(method: str, path: str, body: Any = None) -> int:
        content = [b"" if body is None else json.dumps(body).encode()]
        headers = {"content-type": "application/json", "host": "a"}
        headers["cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "scheme": "http",
            "server": ("a", 80),
            "client": ("127.0.0.1", 1),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        sent: list[Any] = []
        answered = asyncio.Event()

        async def receive() -> Any:
            if content:
                return {"type": "http.request", "body": content.pop(), "more_body": False}
            await answered.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                answered.set()

        asyncio.run(app(scope, receive, send))
        for name, value in sent[0]["headers"]:
            if name.lower() == b"set-cookie":
                key, _, rest = value.decode().partition("=")
                jar[key] = rest.partition(";")[0]
        return int(sent[0]["status"])

    ask.cookies = lambda: set(jar)  # type: ignore[attr-defined]
    return ask


def django_wsgi(kept: MemoryProducer) -> Ask:
    """Django by WSGI."""
    app = get_wsgi_application()
    return by_wsgi(FunnelWsgi(app, kept, STEPS, impressions_path=IMPRESSIONS, session=sessions.django))


def django_asgi(kept: MemoryProducer) -> Ask:
    """Django by ASGI."""
    app: Any = get_asgi_application()
    return by_asgi(FunnelAsgi(app, kept, STEPS, impressions_path=IMPRESSIONS, session=sessions.django))


def in_flask(kept: MemoryProducer) -> Ask:
    """Flask."""
    app = flask.Flask(__name__)
    app.secret_key = "s"

    @app.route("/code", methods=["GET", "POST"])
    @app.route("/api/name", methods=["POST"])
    @app.route("/other")
    @app.route("/next")
    def view() -> str:
        if flask.request.path == "/next":
            show_step("INPUT_NAME")
        return "x"

    read = sessions.flask(app)
    app.wsgi_app = FunnelWsgi(  # type: ignore[method-assign]
        app.wsgi_app, kept, STEPS, impressions_path=IMPRESSIONS, session=read
    )
    return by_wsgi(app)


def in_fastapi(kept: MemoryProducer) -> Ask:
    """FastAPI, with Starlette's sessions."""
    app = FastAPI()

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    def view(path: str) -> str:
        if path == "next":
            show_step("INPUT_NAME")
        return "x"

    app.add_middleware(
        FunnelAsgi,
        producer=kept,
        steps=STEPS,
        impressions_path=IMPRESSIONS,
        session=sessions.starlette,
    )
    app.add_middleware(SessionMiddleware, secret_key="s")
    return by_asgi(app)


FRAMEWORKS = [django_wsgi, django_asgi, in_flask, in_fastapi]


@pytest.fixture(params=FRAMEWORKS, ids=lambda one: one.__name__)
def framework(request: pytest.FixtureRequest, in_django: None) -> Callable[[MemoryProducer], Ask]:
    """Each framework in turn."""
    made: Callable[[MemoryProducer], Ask] = request.param
    return made


def test_pages_impressions_and_what_the_server_shows_are_one_session(
    framework: Callable[[MemoryProducer], Ask],
) -> None:
    """The framework's session knows the person, and when the step was shown; no cookie of the middleware's."""
    kept = MemoryProducer()
    ask = framework(kept)
    asked = [
        ("GET", "/code", None),
        ("POST", "/code", {}),
        ("POST", IMPRESSIONS, {"step": "INPUT_NAME"}),
        ("POST", "/api/name", {}),
        ("GET", "/next", None),
        ("POST", "/api/name", {}),
    ]
    assert [ask(*one) for one in asked] == [200, 200, 204, 200, 200, 200]
    assert [(event.step, event.status) for event in kept.events] == [
        ("VERIFY_SMS_CODE", None),
        ("VERIFY_SMS_CODE", "SUCCESS"),
        ("INPUT_NAME", None),
        ("INPUT_NAME", "SUCCESS"),
        ("INPUT_NAME", None),
        ("INPUT_NAME", "SUCCESS"),
    ]
    assert len({event.sign_up_session_id for event in kept.events}) == 1
    assert all(event.duration_ms is not None for event in kept.of(phase="POST_VERIFICATION"))
    assert "funnel_session" not in ask.cookies()  # type: ignore[attr-defined]


def test_two_people_are_two_sessions(framework: Callable[[MemoryProducer], Ask]) -> None:
    """Each browser has its own."""
    kept = MemoryProducer()
    for ask in (framework(kept), framework(kept)):
        ask("GET", "/code")
        ask("GET", "/code")
    assert len(kept.events) == 4
    assert len({event.sign_up_session_id for event in kept.events}) == 2


def test_a_request_of_no_step_leaves_the_session_alone(framework: Callable[[MemoryProducer], Ask]) -> None:
    """So a visitor of other pages gets no session, and no cookie."""
    kept = MemoryProducer()
    ask = framework(kept)
    assert ask("GET", "/other") == 200
    assert ask("POST", IMPRESSIONS, {"step": "INVENTED"}) == 422
    assert (kept.events, ask.cookies()) == ([], set())  # type: ignore[attr-defined]


def test_a_session_middleware_on_the_wrong_side_is_logged_and_the_cookie_is_used(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says in which order to add the two."""
    monkeypatch.setattr("funnelwatch.producers.client.quiet._logged", {"at": -100.0})
    caplog.set_level(logging.ERROR)
    kept = MemoryProducer()
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret_key="s")
    app.add_middleware(FunnelAsgi, producer=kept, steps=STEPS, session=sessions.starlette)
    ask = by_asgi(app)
    ask("GET", "/code")
    assert "add SessionMiddleware after FunnelAsgi" in caplog.text


def test_an_endpoint_without_the_middleware_of_django_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The app answers 404, and the log says why."""

    def app(environ: Any, start: Any) -> list[bytes]:
        start("404 Not Found", [])
        return [b""]

    kept = MemoryProducer()
    ask = by_wsgi(FunnelWsgi(app, kept, STEPS, impressions_path=IMPRESSIONS, session=sessions.django))
    assert ask("POST", IMPRESSIONS, {"step": "INPUT_NAME"}) == 404
    assert kept.events == []
    assert "/funnel/impressions takes no impressions: the app has not attached its session" in caplog.text
