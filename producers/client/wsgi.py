"""``FunnelWsgi``: the steps of a WSGI app (Django, Flask, …) as events, without a line in the app."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from funnelwatch.producers.client.visits import Visits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from funnelwatch.producers.client.quiet import Emits


class FunnelWsgi:
    """WSGI middleware: a GET of a step's path is its impression, a POST its verification.

    ::

        app.wsgi_app = FunnelWsgi(app.wsgi_app, producer, {"/sign-up/code": "VERIFY_SMS_CODE"})

    The verification's status is the response's: below 400 SUCCESS, else FAILURE; an exception is a FAILURE and goes on.
    An app that answers wrong input with status 200 says so with ``current_step().failure()``.

    Args:
        app: the app.
        producer: a ``FunnelProducer``; when its buffer is full, events are dropped and the app goes on.
        steps: paths and the steps that are there; ``*`` in a path stands for anything.
        **more: ``cookie``, ``session`` and fields of events, as of ``Visits``.
    """

    def __init__(self, app: WSGIApplication, producer: Emits, steps: Mapping[str, str], **more: Any) -> None:
        self._app = app
        self._visits = Visits(producer, steps, **more)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer as the app does."""
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        visit = self._visits.begin(environ["REQUEST_METHOD"], path, _headers(environ))
        if visit is None:
            return self._app(environ, start_response)
        ended = False

        def start(status: str, headers: list[tuple[str, str]], *info: Any) -> Callable[[bytes], object]:
            nonlocal ended
            if not ended:
                ended = True
                cookie = self._visits.end(visit, int(status.split(" ", 1)[0]))
                headers = [*headers, ("Set-Cookie", cookie)] if cookie else headers
            return start_response(status, headers, *info)

        token = self._visits.enter(visit)
        try:
            body = self._app(environ, start)
            # An app that is a generator has not done anything before its first part is asked for.
            return body if ended else _Begun(body)
        except Exception as error:
            if not ended:
                self._visits.end(visit, 500, error)
            raise
        finally:
            self._visits.leave(token)


class _Begun:
    """A body whose first part has been made; the rest comes when it is asked for.

    Args:
        body: what the app returned.
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
    return {name: str(value) for name, value in named.items()}
