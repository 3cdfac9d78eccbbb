"""What WSGI and ASGI middleware share: which requests are steps of the funnel, whose they are, and how they ended.

A GET of a step's path shows the step, a POST (or PUT, PATCH) judges its input. A session is known by a cookie, which
also says when the step was shown, so that nothing is kept on the server.
"""

from __future__ import annotations

import contextlib
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from funnelwatch.producers.client.quiet import quietly
from funnelwatch.producers.collector.user_agent import platform_and_browser
from funnelwatch.schemas.events import Phase, Status, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from funnelwatch.producers.client.quiet import Emits

SHOWS: Final = ("GET",)
JUDGES: Final = ("POST", "PUT", "PATCH")
COOKIE_S: Final = 86_400
LONGEST_MS: Final = 86_400_000
"""A verification longer after its impression than this has no duration."""
LONGEST_ID: Final = 100
"""A longer id in the cookie is not one of ours."""
WRONG: Final = 400
"""Statuses of HTTP from here on say that the input was rejected."""


@dataclass(slots=True)
class Visit:
    """One request of a step.

    Attributes:
        step: its name.
        session_id: whose request it is.
        shows: whether it shows the step; else it judges the input.
        fields: other fields of the event.
        shown_at: when the step was shown, ms; None where unknown.
        new: whether the session has just begun.
        status: what the app has said, by ``current_step()``.
        contexts: likewise.
    """

    step: str
    session_id: str
    shows: bool
    fields: dict[str, Any]
    shown_at: int | None = None
    new: bool = False
    status: Status | None = None
    contexts: dict[str, str] = field(default_factory=dict)

    def success(self, **contexts: str) -> None:
        """The input is right, whatever the response's status."""
        self.status, self.contexts = Status.SUCCESS, contexts

    def failure(self, **contexts: str) -> None:
        """The input is wrong, as where a form is shown again with status 200."""
        self.status, self.contexts = Status.FAILURE, contexts


class _NoVisit(Visit):
    """Outside of a step what is said about it goes nowhere."""


_current: ContextVar[Visit | None] = ContextVar("funnelwatch_visit", default=None)


def current_step() -> Visit:
    """The step that the request being answered is of; outside of one, something that takes every verdict."""
    return _current.get() or _NoVisit("", "", shows=False, fields={})


class Visits:
    """Turns requests into events.

    Args:
        producer: takes the events.
        steps: paths and the steps that are there; ``*`` in a path stands for anything.
        cookie: name of the cookie that knows a session.
        session: tells the session's id from the request's headers (names in lower case), instead of a cookie.
        fields: fields that all events share, such as ``funnel``.
    """

    def __init__(
        self,
        producer: Emits,
        steps: Mapping[str, str],
        *,
        cookie: str = "funnel_session",
        session: Callable[[Mapping[str, str]], str | None] | None = None,
        **fields: Any,
    ) -> None:
        self._producer = producer
        self._steps = dict(steps)
        self._cookie = cookie
        self._session = session
        self._fields = fields

    def begin(self, method: str, path: str, headers: Mapping[str, str]) -> Visit | None:
        """The visit that a request is; None where it is none of a step.

        Args:
            method: of HTTP.
            path: of the request, without its query.
            headers: only those named cookie and user-agent are looked at, unless ``session`` does.
        """
        step = self._steps.get(path) or next((s for p, s in self._steps.items() if fnmatchcase(path, p)), None)
        if step is None or method not in SHOWS + JUDGES:
            return None
        cookies: SimpleCookie = SimpleCookie()
        with contextlib.suppress(CookieError):
            cookies.load(headers.get("cookie", ""))
        known = cookies[self._cookie].value if self._cookie in cookies else ""
        session_id, _, shown = known.partition(".")
        if len(session_id) > LONGEST_ID:
            session_id = ""
        if self._session:
            with quietly(step):
                session_id = self._session(headers) or session_id
        os, browser = platform_and_browser(headers.get("user-agent", ""))
        seen = {name: value for name, value in (("os", os), ("browser", browser)) if value}
        visit = Visit(step, session_id or str(uuid.uuid4()), method in SHOWS, {**seen, **self._fields})
        visit.new = not session_id
        shown_step, _, at = shown.rpartition(".")
        if shown_step == quote(step, safe="") and at.isdecimal():
            visit.shown_at = int(at)
        return visit

    def end(self, visit: Visit, status: int, error: BaseException | None = None) -> str | None:
        """Emit what the visit was, when its response begins.

        Args:
            visit: from ``begin``.
            status: of HTTP.
            error: the exception that the app raised instead of a response.

        Returns:
            The value of a Set-Cookie header, or None.
        """
        now = now_ms()
        event = {**visit.fields, "sign_up_session_id": visit.session_id, "step": visit.step, "ts": now}
        contexts = {**visit.fields.get("contexts", {}), **visit.contexts}
        if visit.shows:
            if status >= WRONG or error is not None:
                return None
            self._emit({**event, "phase": Phase.IMPRESSION, "contexts": contexts})
            return self._set_cookie(f"{visit.session_id}.{quote(visit.step, safe='')}.{now}")
        if error is not None:
            contexts["error"] = type(error).__name__
        judged = visit.status or (Status.FAILURE if status >= WRONG or error is not None else Status.SUCCESS)
        event |= {"phase": Phase.POST_VERIFICATION, "status": judged, "contexts": contexts}
        if visit.shown_at is not None and 0 <= now - visit.shown_at <= LONGEST_MS:
            event["duration_ms"] = now - visit.shown_at
        self._emit(event)
        return self._set_cookie(visit.session_id) if visit.new else None

    def enter(self, visit: Visit) -> Any:
        """From here on ``current_step()`` is this visit; returns what ``leave`` needs."""
        return _current.set(visit)

    def leave(self, token: Any) -> None:
        """The request is answered."""
        _current.reset(token)

    def _emit(self, event: dict[str, Any]) -> None:
        with quietly(event["step"]):
            self._producer.emit(**event)

    def _set_cookie(self, value: str) -> str | None:
        if self._session:
            return None
        return f"{self._cookie}={value}; Path=/; Max-Age={COOKIE_S}; HttpOnly; SameSite=Lax"
