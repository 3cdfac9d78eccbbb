"""The result of a delivery, and deliveries over HTTP."""

from __future__ import annotations

import email.utils
import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.redaction import redacted
from funnelwatch.schemas.web_client import without_login

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

    from funnelwatch.sinks.alerts.bound import Bound

READ_BYTES = 10_000
"""Bytes of an answer that are read, for the log."""

BODY_S = 1.0
"""Longest time for the body of an answer, s; the status has decided already."""

SHOWN = 300


class Outcome(StrEnum):
    """The outcome of one attempt to deliver a message."""

    SENT = "sent"
    REJECTED = "rejected"
    """The other side rejects the message itself; retrying cannot help, and it does not have the message."""
    LATER = "later"
    """The route fails at the moment (outage, too many requests, wrong credentials); the other side has no message."""
    UNANSWERED = "unanswered"
    """The whole message left, and no answer came: the other side may have it, and would get a repeat twice."""


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """The result of one attempt.

    Attributes:
        outcome: what to do with the message.
        text: the other side's answer, for a person, without secrets.
        retry_after_s: how long the other side asks to wait, s; None: it does not.
    """

    outcome: Outcome
    text: str
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        """Remove secrets that the other side repeats: the text is logged, stored and printed."""
        object.__setattr__(self, "text", redacted(self.text))


OF_THE_ROUTE = frozenset({401, 402, 403, 404, 405, 407, 408, 410, 423, 424, 425, 426, 429})
"""HTTP statuses below 500 that blame the route (key, address, quota, moment): a person or time fixes it. The others
from 400 on blame the message: the other side would reject it again."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would send a POST on as a GET and lose the message."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Plain(http.client.HTTPConnection):
    """A connection within the bound of a delivery; notes when the request has left."""

    def __init__(self, host: str, bound: Bound, **more: Any) -> None:
        super().__init__(host, **more)
        self._bound = bound
        self._create_connection = bound.connect

    def getresponse(self) -> http.client.HTTPResponse:
        self._bound.is_sent = True
        return super().getresponse()


class _Secure(http.client.HTTPSConnection):
    """The same over TLS."""

    def __init__(self, host: str, bound: Bound, **more: Any) -> None:
        context = bound.tls()
        context.set_alpn_protocols(["http/1.1"])  # as http.client does for a context of its own
        super().__init__(host, context=context, **more)
        self._bound = bound
        self._create_connection = bound.connect

    def getresponse(self) -> http.client.HTTPResponse:
        self._bound.is_sent = True
        return super().getresponse()


class _HTTP(urllib.request.HTTPHandler):
    def __init__(self, bound: Bound) -> None:
        super().__init__()
        self._bound = bound

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Plain, req, bound=self._bound)  # type: ignore[arg-type] # any callable will do


class _HTTPS(urllib.request.HTTPSHandler):
    def __init__(self, bound: Bound) -> None:
        super().__init__()
        self._bound = bound

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Secure, req, bound=self._bound)  # type: ignore[arg-type] # any callable will do


def post_json(
    url: str | SecretStr, body: Any, bound: Bound, headers: Mapping[str, str] | None = None
) -> DeliveryResult:
    """POST a JSON document; see ``post``."""
    return post(url, json.dumps(body, separators=(",", ":")).encode(), bound, headers)


def post(url: str | SecretStr, body: bytes, bound: Bound, headers: Mapping[str, str] | None = None) -> DeliveryResult:
    """POST a body, JSON unless the headers name another type; raises for no error of the other side.

    Args:
        url: http or https, checked when the routes were read; a login in it is sent as basic authentication.
        body: what to send.
        bound: of the whole delivery, from the resolution of the name to the last byte of the answer.
        headers: more headers.
    """
    bare, login = without_login(url)
    sent = {"Content-Type": "application/json", "User-Agent": "funnelwatch-notify", **login, **(headers or {})}
    request = urllib.request.Request(bare, body, sent, method="POST")  # noqa: S310 - checked: http or https
    opener = urllib.request.build_opener(_NoRedirect, _HTTP(bound), _HTTPS(bound))
    try:
        with opener.open(request) as response:
            return DeliveryResult(Outcome.SENT, _shown(response.status, _beginning(response, bound)))
    except urllib.error.HTTPError as error:
        with error:
            text = _shown(error.code, _beginning(error, bound))
            wait_s = retry_after(error.headers.get("Retry-After"), time.time())
        is_final = http.HTTPStatus.BAD_REQUEST <= error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR
        is_final = is_final and error.code not in OF_THE_ROUTE
        return DeliveryResult(Outcome.REJECTED if is_final else Outcome.LATER, text, wait_s)
    except (OSError, http.client.HTTPException) as error:
        return no_answer(error, bound)


def no_answer(error: Exception, bound: Bound) -> DeliveryResult:
    """The result where no answer came."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    text = redacted(f"{type(reason).__name__}: {reason}")[:SHOWN]
    return DeliveryResult(Outcome.UNANSWERED if bound.is_sent else Outcome.LATER, text)


def retry_after(value: str | None, now_s: float) -> float | None:
    """The pause that a ``Retry-After`` header asks for, s (RFC 9110, 10.2.3: seconds or a date); None: no pause."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now_s)
    except (ValueError, TypeError, OverflowError):
        return None


def _shown(status: int, body: bytes) -> str:
    # Remove secrets before cutting: half a secret would not be recognized.
    return f"{status} {redacted(' '.join(body.decode(errors='replace').split()))[:SHOWN]}".strip()


def _beginning(response: Any, bound: Bound) -> bytes:
    """The beginning of an answer's body, as far as it comes soon."""
    bound.shorten(BODY_S)
    found = b""
    try:
        while len(found) < READ_BYTES and (part := response.read1(READ_BYTES - len(found))):
            found += part
    except (OSError, http.client.HTTPException, ValueError):
        pass
    return found
