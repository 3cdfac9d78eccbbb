"""``FunnelAsgi``: the steps of an ASGI app (FastAPI, Starlette, Django, …) as events, without a line in the app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from funnelwatch.producers.client.middleware import Middleware
from funnelwatch.producers.client.visit import Request, Visit, current
from funnelwatch.producers.client.visits import MAX_BODY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]


class FunnelAsgi(Middleware["App"]):
    """ASGI middleware: a GET of a step's path is its impression, a POST its verification.

    ::

        app.add_middleware(FunnelAsgi, producer=producer, steps={"/sign-up/code": "VERIFY_SMS_CODE"})

    ``Middleware`` explains the arguments.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the app does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(
            scope["method"], scope["path"], scope.get("scheme") == "https", scope, lambda: _headers(scope)
        )
        if not self._visits.is_impressions(request):
            await self._answer(self._visits.begin(request), receive, send)
            return
        body = await _body(receive)
        visit = self._visits.impression(request, body)
        if self._visits.asks_app and visit.shown:
            await self._answer(visit, _replay(body, receive), send)
            return
        headers = [(name.lower().encode(), value.encode()) for name, value in self._visits.answer(visit)]
        await send({"type": "http.response.start", "status": int(visit.answer), "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _answer(self, visit: Visit, receive: Receive, send: Send) -> None:
        """Let the app answer; emit the visit's events when the response begins."""
        ended = False

        async def start(message: Message) -> None:
            nonlocal ended
            if message["type"] == "http.response.start" and not ended:
                ended = True
                if cookie := self._visits.end(visit, message["status"]):
                    message = {**message, "headers": [*message.get("headers", []), (b"set-cookie", cookie.encode())]}
            await send(message)

        assert visit.request is not None
        token = current.set(visit)
        try:
            await self._app(visit.request.raw, receive, start)
        except Exception as error:
            if not ended:
                self._visits.end(visit, 500, error)
            raise
        finally:
            current.reset(token)


def _headers(scope: Scope) -> dict[str, str]:
    """The request's headers, names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


async def _body(receive: Receive) -> bytes:
    """The request's body, or a little more than is allowed of it."""
    body = b""
    while len(body) <= MAX_BODY:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body"):
            break
    return body[: MAX_BODY + 1]


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body once more, for the app."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again
