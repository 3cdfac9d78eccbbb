"""``FunnelAsgi``: the steps of an ASGI app (FastAPI, Starlette, Django, …) as events, without a line in the app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from funnelwatch.producers.client.visits import Visits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from funnelwatch.producers.client.quiet import Emits

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]


class FunnelAsgi:
    """ASGI middleware: a GET of a step's path is its impression, a POST its verification.

    ::

        app.add_middleware(FunnelAsgi, producer=producer, steps={"/sign-up/code": "VERIFY_SMS_CODE"})

    The verification's status is the response's: below 400 SUCCESS, else FAILURE; an exception is a FAILURE and goes on.
    An app that answers wrong input with status 200 says so with ``current_step().failure()``.

    Args:
        app: the app.
        producer: a ``FunnelProducer``; when its buffer is full, events are dropped and the app goes on.
        steps: paths and the steps that are there; ``*`` in a path stands for anything.
        **more: ``cookie``, ``session`` and fields of events, as of ``Visits``.
    """

    def __init__(self, app: App, producer: Emits, steps: Mapping[str, str], **more: Any) -> None:
        self._app = app
        self._visits = Visits(producer, steps, **more)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does."""
        visit = None
        if scope["type"] == "http":
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            visit = self._visits.begin(scope["method"], scope["path"], headers)
        if visit is None:
            await self._app(scope, receive, send)
            return
        ended = False

        async def start(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start" and not ended:
                ended = True
                if cookie := self._visits.end(visit, message["status"]):
                    message = {**message, "headers": [*message.get("headers", []), (b"set-cookie", cookie.encode())]}
            await send(message)

        token = self._visits.enter(visit)
        try:
            await self._app(scope, receive, start)
        except Exception as error:
            if not ended:
                self._visits.end(visit, 500, error)
            raise
        finally:
            self._visits.leave(token)
