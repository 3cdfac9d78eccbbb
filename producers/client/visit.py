"""``Visit``: one request to an app with the middleware, and what the app says about it."""

from __future__ import annotations

import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.events import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

ID_KEY: Final = "funnel_session_id"
"""The key of a framework's session that holds the funnel's session id."""
SHOWN_KEY: Final = "funnel_shown"
"""The key that holds which step was shown, and when, ms."""


@dataclass
class Request:
    """One request of HTTP, before the app sees it.

    Attributes:
        method: like GET.
        path: without the query.
        https: whether it came by https, as far as the server knows.
        raw: the ASGI scope, or the WSGI environ.
    """

    method: str
    path: str
    https: bool
    raw: MutableMapping[str, Any]
    read_headers: Callable[[], dict[str, str]] = field(repr=False)

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in lower case."""
        return self.read_headers()


@dataclass(slots=True)
class Visit:
    """One request: of a step, or of any other path, whose answer may show a step as well.

    Attributes:
        request: the request; None outside of one.
        step: the step of the path; empty where the path is of none.
        shows: whether the request shows that step; else it verifies the input.
        session_id: the session; empty until it is needed.
        by_cookie: whether the middleware's cookie knows the session.
        new: whether the session has just begun.
        shown_at: when the step was shown, ms; None where unknown.
        status: what the app has said, by ``current_step()``.
        dimensions: likewise.
        shown: steps that the app shows, by ``show_step()``, with their dimensions.
        session: the framework's session, once a reader of ``funnelwatch.sessions`` has attached it.
        answer: the status of HTTP that the middleware's own endpoint answers with; 0 for a request of the app.
    """

    request: Request | None = None
    step: str = ""
    shows: bool = False
    session_id: str = ""
    by_cookie: bool = False
    new: bool = False
    shown_at: int | None = None
    status: Status | None = None
    dimensions: dict[str, str | None] = field(default_factory=dict)
    shown: dict[str, dict[str, str | None]] = field(default_factory=dict)
    session: MutableMapping[str, Any] | None = None
    answer: int = 0

    def success(self, **dimensions: str | None) -> None:
        """The input is right, whatever the response's status."""
        self.status, self.dimensions = Status.SUCCESS, dimensions

    def failure(self, **dimensions: str | None) -> None:
        """The input is wrong, as where a form is shown again with status 200."""
        self.status, self.dimensions = Status.FAILURE, dimensions

    def show(self, step: str, **dimensions: str | None) -> None:
        """The response shows a step; see ``show_step``."""
        self.shown[step] = dimensions
        if self.session is not None:
            self._keep(self.session, step)

    def attach(self, session: MutableMapping[str, Any]) -> None:
        """Know the person by a framework's session, which is written only where the request concerns a step."""
        self.session = session
        steps = [self.step, *self.shown] if self.shows else list(self.shown)
        if not self.step and not steps:
            return
        kept = session.get(SHOWN_KEY)
        self._keep(session, *steps)
        if isinstance(kept, list | tuple) and len(kept) == 2 and kept[0] == self.step:  # noqa: PLR2004 - step and time
            self.shown_at = kept[1] if isinstance(kept[1], int) else None

    def _keep(self, session: MutableMapping[str, Any], *shown: str) -> None:
        """Have an id in the framework's session, and the last step that is shown."""
        session_id = session.get(ID_KEY)
        if not isinstance(session_id, str) or not session_id:
            session_id = session[ID_KEY] = str(uuid.uuid4())
        self.session_id, self.by_cookie = session_id, False
        for step in shown:
            session[SHOWN_KEY] = [step, wall_clock_ms()]


current: ContextVar[Visit | None] = ContextVar("funnelwatch_visit", default=None)
"""The visit that is being answered."""


def current_step() -> Visit:
    """The request that is being answered; outside of one, a ``Visit`` that nothing reads."""
    return current.get() or Visit()


def show_step(step: str, **dimensions: str | None) -> None:
    """Say that the response to the current request shows a step, as where an API sends a form's description as JSON.

    The middleware emits the impression when the response begins with a status below 400. Outside of a request of an
    app with the middleware nothing happens.

    Args:
        step: name of the step.
        **dimensions: os, browser, app_version and further dimensions of this impression.
    """
    current_step().show(step, **dimensions)
