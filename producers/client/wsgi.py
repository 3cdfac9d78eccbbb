"""``FunnelWsgi``: the steps of a WSGI app (Django, Flask, …) as events, without a line in the app."""

from __future__ import annotations

import io
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, Any

from funnelwatch.producers.client.middleware import Middleware
from funnelwatch.producers.client.visit import Request, Visit, current
from funnelwatch.producers.client.visits import MAX_BODY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    App = WSGIApplication


class FunnelWsgi(Middleware["App"]):
    """WSGI middleware: a GET of a step's path is its impression, a POST its verification.

    ::

        app.wsgi_app = FunnelWsgi(app.wsgi_app, producer, {"/sign-up/code": "VERIFY_SMS_CODE"})

    ``Middleware`` explains the arguments.
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer as the app does."""
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        https = environ.get("wsgi.url_scheme") == "https"
        request = Request(environ["REQUEST_METHOD"], path, https, environ, lambda: _headers(environ))
        if not self._visits.is_impressions(request):
            return self._answer(self._visits.begin(request), environ, start_response)
        body = _body(environ)
        visit = self._visits.impression(request, body)
        if self._visits.asks_app and visit.shown:
            replayed = {**environ, "wsgi.input": io.BytesIO(body)}
            return self._answer(visit, replayed, start_response)
        start_response(f"{visit.answer:d} {HTTPStatus(visit.answer).phrase}", self._visits.answer(visit))
        return [b""]

    def _answer(self, visit: Visit, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Let the app answer; emit the visit's events when the response begins."""
        ended = False

        def start(status: str, headers: list[tuple[str, str]], *info: Any) -> Callable[[bytes], object]:
            nonlocal ended
            if not ended:
                ended = True
                cookie = self._visits.end(visit, int(status.split(" ", 1)[0]))
                headers = [*headers, ("Set-Cookie", cookie)] if cookie else headers
            return start_response(status, headers, *info)

        token = current.set(visit)
        try:
            body = self._app(environ, start)
            # An app that is a generator has not done anything before its first part is asked for.
            return body if ended else _Begun(body)
        except Exception as error:
            if not ended:
                self._visits.end(visit, 500, error)
            raise
        finally:
            current.reset(token)


class _Begun:
    """A body whose first part has been made; the server asks for the rest.

    Args:
        body: the app's.
    """

    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body
        rest = iter(body)
        self._parts = chain([next(rest, b"")], rest)

    def __iter__(self) -> Iterator[bytes]:
        """The parts."""
        return self._parts

    def close(self) -> None:
        """The app's own clean-up (PEP 3333)."""
        if close := getattr(self._body, "close", None):
            close()


def _headers(environ: WSGIEnvironment) -> dict[str, str]:
    """The request's headers, names in lower case."""
    named = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")}
    headers = {name: str(value) for name, value in named.items()}
    return headers | {"content-type": str(environ.get("CONTENT_TYPE") or "")}


def _body(environ: WSGIEnvironment) -> bytes:
    """The request's body, or a little more than is allowed of it; empty where its length is not given."""
    length = str(environ.get("CONTENT_LENGTH") or "")
    if not length.isdecimal():
        return b""
    return bytes(environ["wsgi.input"].read(min(int(length[:9]), MAX_BODY + 1)))
