"""``Middleware``: the arguments of ``FunnelAsgi`` and ``FunnelWsgi``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from funnelwatch.producers.client.cookie import FunnelCookie
from funnelwatch.producers.client.fields import given
from funnelwatch.producers.client.visits import Visits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from funnelwatch.producers.client.quiet import Emits
    from funnelwatch.producers.client.visits import Dimension, SessionReader

App = TypeVar("App")


class Middleware(Generic[App]):
    """A GET of a step's path is its impression, a POST its verification.

    The verification's status is the response's: below 400 SUCCESS, else FAILURE; an exception is a FAILURE and passes.
    An app that answers wrong input with status 200 calls ``current_step().failure()``; an app that shows a step on any
    other path calls ``show_step("VERIFY_SMS_CODE")``.

    Args:
        app: the app.
        producer: a ``FunnelProducer``; when its buffer is full, events are dropped and the app goes on.
        steps: paths and their steps, as ``"/sign-up/code"`` or for one method ``"POST /api/code"``; ``*`` in a path
            stands for anything.
        impressions_path: a path where the middleware itself takes ``{"step": "..."}`` as POST and answers 204: for
            apps that show steps without a request. Only steps of ``steps`` are taken.
        session: reads the session from a ``Request``: its id, or a framework's session (``funnelwatch.sessions``), or
            None; by default a cookie knows it.
        cookie: how the cookie is set.
        funnel: the funnel of all events; None: the producer's default.
        contexts: other values to keep with every event.
        **dimensions: os, browser, app_version and further dimensions: each a text, or a function of the ``Request``
            that returns one: ``country=lambda request: request.headers.get("cf-ipcountry")``. Without them os and
            browser come from the User-Agent, all others from the producer's defaults.

    Raises:
        ValueError: a key of ``steps`` is no path, or no dimension can have such a name.
    """

    def __init__(
        self,
        app: App,
        producer: Emits,
        steps: Mapping[str, str],
        *,
        impressions_path: str | None = None,
        session: SessionReader | None = None,
        cookie: FunnelCookie = FunnelCookie(),  # noqa: B008 - it is frozen
        funnel: str | None = None,
        contexts: dict[str, str] | None = None,
        **dimensions: Dimension,
    ) -> None:
        self._app = app
        self._visits = Visits(
            producer,
            steps,
            impressions_path=impressions_path,
            session=session,
            cookie=cookie,
            fields=given(funnel=funnel, contexts=contexts),
            dimensions=dimensions,
        )
