"""Asks an app through FunnelWsgi or FunnelAsgi, in this process."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

from funnelwatch import FunnelAsgi, FunnelWsgi

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = {"/sign-up/code": "VERIFY_SMS_CODE", "/sign-up/*/name": "INPUT_NAME", "POST /api/name": "INPUT_NAME"}
PHONE = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36"


@dataclass
class Asked:
    """What a browser sends with a request."""

    method: str
    path: str
    cookie: str = ""
    body: bytes = b""
    content_type: str = ""
    https: bool = False
    headers: dict[str, str] = field(default_factory=dict)


def wsgi(kept: Any, app: Callable[..., Any], **more: Any) -> Callable[..., tuple[int, dict[str, str]]]:
    """Asks a WSGI app: takes the fields of ``Asked``; gives status and headers."""
    wrapped = FunnelWsgi(app, kept, STEPS, **more)

    def ask(*args: Any, **fields: Any) -> tuple[int, dict[str, str]]:
        asked = Asked(*args, **fields)
        environ: dict[str, Any] = {"REQUEST_METHOD": asked.method, "PATH_INFO": asked.path, "HTTP_USER_AGENT": PHONE}
        environ |= {"HTTP_COOKIE": asked.cookie, "wsgi.input": io.BytesIO(asked.body)}
        environ |= {"CONTENT_LENGTH": str(len(asked.body)), "CONTENT_TYPE": asked.content_type}
        environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in asked.headers.items()}
        environ["wsgi.url_scheme"] = "https" if asked.https else "http"
        setup_testing_defaults(environ)
        got: dict[str, Any] = {}

        def start(status: str, headers: list[tuple[str, str]], *info: Any) -> Callable[[bytes], object]:
            got.update(status=int(status[:3]), headers=dict(headers))
            return lambda data: None

        list(wrapped(environ, start))
        return got["status"], got["headers"]

    return ask


def asgi(kept: Any, app: Callable[..., Any], **more: Any) -> Callable[..., tuple[int, dict[str, str]]]:
    """Asks a WSGI app the ASGI way; takes and gives the same."""

    async def as_asgi(scope: Any, receive: Any, send: Any) -> None:
        got: dict[str, Any] = {}

        def start(status: str, headers: list[tuple[str, str]], *info: Any) -> None:
            got.update(status=int(status[:3]), headers=[(k.lower().encode(), v.encode()) for k, v in headers])

        body = b"".join(app({"REQUEST_METHOD": scope["method"], "PATH_INFO": scope["path"]}, start))
        await send({"type": "http.response.start", **got})
        await send({"type": "http.response.body", "body": body})

    wrapped = FunnelAsgi(as_asgi, kept, STEPS, **more)

    def ask(*args: Any, **fields: Any) -> tuple[int, dict[str, str]]:
        asked = Asked(*args, **fields)
        headers = {"user-agent": PHONE, "cookie": asked.cookie, "content-type": asked.content_type} | asked.headers
        # In two parts, as a server may give it.
        parts = [asked.body[:5], asked.body[5:]]
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        scope: dict[str, Any] = {"type": "http", "method": asked.method, "path": asked.path}
        scope |= {"scheme": "https" if asked.https else "http"}
        scope |= {"headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
        asyncio.run(wrapped(scope, receive, send))
        named = {name.decode().title(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], named

    return ask


def answers(status: str) -> Callable[..., Any]:
    """An app with one answer."""

    def app(environ: Any, start: Any) -> list[bytes]:
        start(status, [("Content-Type", "text/plain")])
        return [b"x"]

    return app


def sent_back(headers: dict[str, str]) -> str:
    """The cookie as a browser sends it back."""
    (morsel,) = SimpleCookie(headers["Set-Cookie"]).values()
    return f"other=1; {morsel.key}={morsel.coded_value}"
