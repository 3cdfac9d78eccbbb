"""Readers of a framework's session for ``session=`` of ``FunnelAsgi`` and ``FunnelWsgi``.

The middleware then sets no cookie: the framework's session holds the funnel's session id (``funnel_session_id``) and
when a step was shown (``funnel_shown``). It is written only by requests that concern a step. No framework is imported
before its reader is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from funnelwatch.producers.client.visit import current

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from funnelwatch.producers.client.visit import Request


def starlette(request: Request) -> MutableMapping[str, Any]:
    """Read the session of Starlette's or FastAPI's ``SessionMiddleware``, which must be outside of ``FunnelAsgi``.

    ::

        app.add_middleware(FunnelAsgi, producer=producer, steps=STEPS, session=sessions.starlette)
        app.add_middleware(SessionMiddleware, secret_key=SECRET)

    Raises:
        LookupError: there is no session yet; the log names the cause, and the cookie is used instead.
    """
    if "session" not in request.raw:
        raise LookupError("no session yet: add SessionMiddleware after FunnelAsgi, so that it is outside of it")
    session: MutableMapping[str, Any] = request.raw["session"]
    return session


class InApp:
    """A reader that code inside the app does the work of: the framework opens its session only there."""

    in_app = True

    def __call__(self, request: Request) -> None:
        """Know nothing before the app has the request."""


django = InApp()
"""Reads ``request.session`` of Django; needs ``"funnelwatch.sessions.DjangoSession"`` in ``MIDDLEWARE``."""


class DjangoSession:
    """Django middleware: gives ``request.session`` to the ``FunnelWsgi`` or ``FunnelAsgi`` around the app.

    ::

        MIDDLEWARE = [
            "django.contrib.sessions.middleware.SessionMiddleware",
            "funnelwatch.sessions.DjangoSession",
            ...
        ]

    Args:
        get_response: the rest of Django.
    """

    # Sessions read the database, which Django does in a thread where the app is asynchronous.
    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response

    def __call__(self, request: Any) -> Any:
        """Answer the middleware's own endpoint; let Django answer everything else."""
        visit = current.get()
        if visit is not None:
            visit.attach(request.session)
            if visit.answer:
                from django.http import HttpResponse  # noqa: PLC0415 - only apps on Django have it

                return HttpResponse(status=int(visit.answer))
        return self._get_response(request)


def flask(app: Any) -> InApp:
    """Read ``flask.session`` of an app.

    ::

        app.wsgi_app = FunnelWsgi(app.wsgi_app, producer, STEPS, session=sessions.flask(app))

    Args:
        app: the ``flask.Flask``, before its first request.
    """

    def attach() -> Any:
        from flask import session  # noqa: PLC0415 - only apps on Flask have it

        visit = current.get()
        if visit is not None:
            visit.attach(session)
            if visit.answer:
                return "", int(visit.answer)
        return None

    app.before_request(attach)
    return InApp()
