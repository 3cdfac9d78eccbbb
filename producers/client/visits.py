"""``Visits``: turns the requests of an app into events; WSGI and ASGI middleware share it.

A GET of a step's path shows the step, a POST (or PUT, PATCH) verifies its input. A cookie knows the session, and when
the step was shown, so that the server keeps nothing; or a framework's session knows both.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import MutableMapping
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from funnelwatch.producers.client.fields import check_dimensions, dimensions_now, given, with_dimensions
from funnelwatch.producers.client.quiet import quietly
from funnelwatch.producers.client.visit import Visit
from funnelwatch.producers.collector.user_agent import platform_and_browser
from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.events import Phase, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from funnelwatch.producers.client.cookie import FunnelCookie
    from funnelwatch.producers.client.quiet import Emits
    from funnelwatch.producers.client.visit import Request

    SessionReader = Callable[[Request], str | MutableMapping[str, Any] | None]
    Dimension = str | Callable[[Request], str | None] | None

logger = logging.getLogger("funnelwatch.instrument")

SHOWS: Final = ("GET",)
VERIFIES: Final = ("POST", "PUT", "PATCH")
METHODS: Final = (*SHOWS, *VERIFIES, "DELETE")
LONGEST_MS: Final = 86_400_000
"""A verification longer after its impression than this has no duration."""
WRONG: Final = 400
"""Statuses of HTTP from here on say that the input was rejected."""
MAX_BODY: Final = 1_000
"""A longer body of an impression is rejected, in bytes; the name of a step needs less."""


class Visits:
    """Turns requests into events.

    Args:
        producer: takes the events.
        steps: paths and their steps, or "METHOD path"; ``*`` in a path stands for anything.
        impressions_path: where the middleware itself takes impressions; None: nowhere.
        session: reads the session of a request: its id, or a framework's session; None: the cookie knows it.
        cookie: how the cookie is set.
        fields: ``funnel`` and ``contexts`` of all events.
        dimensions: those of all events, texts or functions of a request.

    Raises:
        ValueError: a key of ``steps`` is no path and no method with a path, or no dimension can have such a name.
    """

    def __init__(
        self,
        producer: Emits,
        steps: Mapping[str, str],
        *,
        impressions_path: str | None,
        session: SessionReader | None,
        cookie: FunnelCookie,
        fields: Mapping[str, Any],
        dimensions: Mapping[str, Dimension],
    ) -> None:
        check_dimensions(dimensions, ("impressions_path", "session", "cookie"))
        self._producer = producer
        self._exact: dict[tuple[str, str], str] = {}
        self._patterns: list[tuple[tuple[str, ...], str, str]] = []
        for key, step in steps.items():
            self._declare(key, step)
        self._declared = frozenset(steps.values())
        self._impressions_path = impressions_path
        self._session = session
        self._cookie = cookie
        self._fields = dict(fields)
        self._dimensions = dict(dimensions)

    @property
    def asks_app(self) -> bool:
        """Whether code inside the app attaches the session, also to requests of the middleware's own endpoint."""
        return bool(getattr(self._session, "in_app", False))

    def is_impressions(self, request: Request) -> bool:
        """Whether the middleware itself answers a request."""
        return request.path == self._impressions_path

    def begin(self, request: Request) -> Visit:
        """The visit that a request is."""
        visit = Visit(request)
        visit.step = self._step_of(request.method, request.path) or ""
        if visit.step:
            visit.shows = request.method in SHOWS
            self._identify(visit)
        return visit

    def impression(self, request: Request, body: bytes) -> Visit:
        """The visit that a request to ``impressions_path`` is; its ``answer`` says what is wrong with it, if anything.

        Args:
            request: the request.
            body: its body, or the first ``MAX_BODY`` bytes and one more.
        """
        visit = Visit(request)
        visit.answer, step = self._read_impression(request, body)
        if step:
            visit.shown[step] = {}
            self._identify(visit)
        return visit

    def answer(self, visit: Visit) -> list[tuple[str, str]]:
        """Emit the impression that the middleware itself took; returns the headers of its answer."""
        cookie = self.end(visit, visit.answer)
        headers = [("Set-Cookie", cookie)] if cookie else []
        if visit.answer != HTTPStatus.NO_CONTENT:
            headers.append(("Content-Length", "0"))
        if visit.answer == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", "POST"))
        return headers

    def end(self, visit: Visit, status: int, error: BaseException | None = None) -> str | None:
        """Emit what the visit was, when its response begins.

        Args:
            visit: from ``begin`` or ``impression``.
            status: of HTTP.
            error: the exception that the app raised instead of a response.

        Returns:
            The value of a Set-Cookie header, or None.
        """
        failed = status >= WRONG or error is not None
        if visit.answer and visit.session is None and self.asks_app:
            logger.warning("%s takes no impressions: the app has not attached its session", self._impressions_path)
        shown = {} if failed else dict(visit.shown)
        if visit.step and visit.shows and not failed:
            shown.setdefault(visit.step, visit.dimensions)
        if not shown and (visit.shows or not visit.step):
            return None
        self._identify(visit)
        now = wall_clock_ms()
        if visit.step and not visit.shows:
            with quietly(f"an event of {visit.step}"):
                self._producer.emit(self._verification(visit, now, failed, error))
        for step, dimensions in shown.items():
            with quietly(f"an event of {step}"):
                self._producer.emit({**self._event(visit, step, now, dimensions), "phase": Phase.IMPRESSION})
        if visit.request is None or not visit.by_cookie or not (shown or visit.new):
            return None
        last = (list(shown)[-1], now) if shown else None
        return self._cookie.write(visit.session_id, https=self._https(visit.request), shown=last)

    def _declare(self, key: str, step: str) -> None:
        method, blank, path = key.rpartition(" ")
        if not path.startswith(("/", "*")) or (blank and method not in METHODS):
            raise ValueError(f"steps: {key!r} is no path; right would be like '/sign-up/code' or 'POST /api/code'")
        methods = (method,) if blank else (*SHOWS, *VERIFIES)
        if "*" in path or "?" in path or "[" in path:
            self._patterns.append((methods, path, step))
        for one in methods:
            self._exact.setdefault((one, path), step)

    def _step_of(self, method: str, path: str) -> str | None:
        if step := self._exact.get((method, path)):
            return step
        patterns = self._patterns
        return next((s for methods, p, s in patterns if method in methods and fnmatchcase(path, p)), None)

    def _read_impression(self, request: Request, body: bytes) -> tuple[int, str]:
        """The status of the answer, and the step where it is 204."""
        if request.method != "POST":
            return HTTPStatus.METHOD_NOT_ALLOWED, ""
        # A page of another site cannot send this type without asking first, so it cannot forge impressions.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, ""
        if len(body) > MAX_BODY:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, ""
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            return HTTPStatus.BAD_REQUEST, ""
        step = content.get("step") if isinstance(content, dict) else None
        if not isinstance(step, str) or step not in self._declared:
            return HTTPStatus.UNPROCESSABLE_ENTITY, ""
        return HTTPStatus.NO_CONTENT, step

    def _identify(self, visit: Visit) -> None:
        """Give a visit its session: the reader's, else the cookie's, else a new one."""
        if visit.session_id or visit.request is None:
            return
        if self._session and not self.asks_app:
            found = None
            with quietly(visit.step or "a session"):
                found = self._session(visit.request)
            if isinstance(found, MutableMapping):
                visit.attach(found)
                return
            if found:
                visit.session_id = found
                return
        known = self._cookie.read(visit.request.headers.get("cookie", ""))
        visit.by_cookie = True
        visit.session_id, visit.new = known.session_id or str(uuid.uuid4()), not known.session_id
        visit.shown_at = known.shown_at(visit.step)

    def _verification(self, visit: Visit, now: int, failed: bool, error: BaseException | None) -> dict[str, Any]:
        failure = {} if error is None else {"error": type(error).__name__}
        event = self._event(visit, visit.step, now, {**visit.dimensions, **failure})
        event |= {
            "phase": Phase.POST_VERIFICATION,
            "status": visit.status or (Status.FAILURE if failed else Status.SUCCESS),
        }
        if visit.shown_at is not None and 0 <= now - visit.shown_at <= LONGEST_MS:
            event["duration_ms"] = now - visit.shown_at
        return event

    def _event(self, visit: Visit, step: str, now: int, dimensions: Mapping[str, str | None]) -> dict[str, Any]:
        """The fields of an event; ``dimensions`` are those that the app gives with this request."""
        assert visit.request is not None
        os, browser = platform_and_browser(visit.request.headers.get("user-agent", ""))
        event = {**self._fields, "sign_up_session_id": visit.session_id, "step": step, "ts": now}
        of_all = dimensions_now(self._dimensions, visit.request)
        seen = given(os=os or None, browser=browser or None)
        return with_dimensions(event, {**seen, **of_all, **given(**dimensions)})

    def _https(self, request: Request) -> bool:
        if self._cookie.trust_forwarded_proto and (forwarded := request.headers.get("x-forwarded-proto")):
            return forwarded.partition(",")[0].strip().lower() == "https"
        return request.https
